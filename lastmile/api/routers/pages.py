"""Pages for people: the reference of the API (Swagger UI), and a page for each type of problem. No token."""

from importlib.resources import files
from string import Template

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, HTMLResponse, Response

from lastmile.api.auth.requirements import public
from lastmile.api.problems import PROBLEM_TYPES, ProblemError

__all__ = ["router"]

router = APIRouter(include_in_schema=False, dependencies=[Depends(public)])

ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
"""The files of Swagger UI 5.35.0 (Apache-2.0) that this repository carries: the page needs no internet."""

_DOCS = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Lastmile API</title><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="reference"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true});</script>
</body></html>
"""

_PROBLEM = Template(
    """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>$title</title></head>
<body><h1>$title</h1><p>HTTP status $status</p><p>$remedy</p></body></html>
"""
)


@router.get("/docs")
async def docs() -> Response:
    """Show the reference of the API."""
    return HTMLResponse(_DOCS)


@router.get("/docs/{asset}")
async def docs_asset(asset: str) -> Response:
    """Return a file of Swagger UI."""
    if asset not in ASSETS:
        raise ProblemError("not-found", f"Nothing is at /docs/{asset}.")
    return FileResponse(str(files("lastmile.api") / "assets" / asset), media_type=ASSETS[asset])


@router.get("/problems/{slug}")
async def problem(slug: str) -> Response:
    """Say what to do about a type of problem."""
    if (found := PROBLEM_TYPES.get(slug)) is None:
        raise ProblemError("not-found", f"There is no problem {slug}.")
    remedy = found.remedy.replace("<", "&lt;")
    return HTMLResponse(_PROBLEM.substitute(title=found.title, status=found.status, remedy=remedy))
