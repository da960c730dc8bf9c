"""`/healthz` and `/readyz`, for load balancers. Neither needs a token."""

import asyncio

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import JSONResponse

from lastmile.api.auth.requirements import public
from lastmile.api.context import Context

__all__ = ["router"]

router = APIRouter(tags=["health"], dependencies=[Depends(public)])


class Health(BaseModel):
    """The process serves requests."""

    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """Answer while the process serves requests."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"description": "A system that orders need is away."}}, response_model=None)
async def readyz(context: Context) -> JSONResponse:
    """Answer with the finding of each check: `ok`, or the problem. Orders are accepted while Temporal is away."""
    report = await asyncio.to_thread(context.readiness.report)
    return JSONResponse({"ready": report.ready, **report.findings}, 200 if report.ready else 503)
