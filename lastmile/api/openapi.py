"""The OpenAPI document: what the framework derives from the routes, with problems in place of its own errors."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lastmile.api.problems import MEDIA_TYPE, PROBLEM_TYPES, Problem, ProblemType

__all__ = ["describe"]

Json = dict[str, Any]

_OF_FRAMEWORK = ("HTTPValidationError", "ValidationError")
_INVALID = "Validation Error"
"""The framework's description of 422."""
_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

_GUARDED = ("401", "403", "429")
_WITH_PATH = ("404",)
_WITH_BODY = ("400", "408", "413", "415")
_ALWAYS = ("500", "503")

_HEADERS: Mapping[str, tuple[str, str]] = {
    "401": ("WWW-Authenticate", "string"),
    "429": ("Retry-After", "integer"),
    "503": ("Retry-After", "integer"),
}
"""The header that tells a program what to do about a status."""

_LIMITS = {"ge": "minimum", "le": "maximum"}
"""The names in JSON Schema of limits that pydantic leaves as they are behind a validator of Lastmile's own."""

_ORDER_ID = "$response.body#/order_id"
_OF_ORDER = "/v1/orders/{order_id}"


def describe(app: FastAPI) -> Json:
    """Return the document of the application, OpenAPI 3.1."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _OF_FRAMEWORK:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    components["responses"] = {_name(status): _response(status) for status in sorted(_statuses())}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_problems(path, operation)
    accepted = document["paths"]["/v1/orders"]["post"]["responses"]["202"]
    accepted["links"] = dict(_links_of_order(document["paths"]))
    _correct_limits(document)
    return document


def _add_problems(path: str, operation: Json) -> None:
    """Name the problems that every operation of this kind answers with."""
    responses = operation["responses"]
    if responses.get("422", {}).get("description") == _INVALID:
        responses["422"] = {"$ref": f"#/components/responses/{_name('422')}"}
    for status in [status for status in responses if status.startswith(("4", "5"))]:
        if "$ref" not in responses[status]:
            responses[status]["content"] = _CONTENT
    kinds = {_GUARDED: "security" in operation, _WITH_PATH: "{" in path, _WITH_BODY: "requestBody" in operation}
    for statuses in [_ALWAYS, *(statuses for statuses, applies in kinds.items() if applies)]:
        for status in statuses:
            responses.setdefault(status, {"$ref": f"#/components/responses/{_name(status)}"})
    responses["default"] = {"description": "A problem", "content": _CONTENT}


def _statuses() -> set[str]:
    return {*_GUARDED, *_WITH_PATH, *_WITH_BODY, *_ALWAYS, "422"}


def _kinds(status: str) -> list[ProblemType]:
    return [kind for kind in PROBLEM_TYPES.values() if kind.status == int(status)]


def _name(status: str) -> str:
    return _kinds(status)[0].slug.title().replace("-", "")


def _response(status: str) -> Json:
    kinds = _kinds(status)
    response = {"description": "; ".join(f"{kind.title} (`{kind.path}`)" for kind in kinds), "content": _CONTENT}
    if status in _HEADERS:
        name, kind = _HEADERS[status]
        response["headers"] = {name: {"required": True, "schema": {"type": kind}}}
    return response


def _links_of_order(paths: Json) -> Iterator[tuple[str, Json]]:
    """Yield a link to each operation that takes the id of an accepted order."""
    for path, operations in paths.items():
        for operation in operations.values():
            if path.startswith(_OF_ORDER):
                name = operation["operationId"]
                yield name, {"operationId": name, "parameters": {"path.order_id": _ORDER_ID}}


def _correct_limits(node: Any) -> None:
    """Rename the limits of every schema below the node."""
    if isinstance(node, list):
        for item in node:
            _correct_limits(item)
    if isinstance(node, dict):
        if node.get("type") in ("integer", "number"):
            for written, name in _LIMITS.items():
                if written in node:
                    node[name] = node.pop(written)
        for item in node.values():
            _correct_limits(item)
