"""Turn every failure of a request into a problem: no words of a library, and all invalid values at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from temporalio.service import RPCError

from lastmile.api.problems import ProblemError, Violation, problem_response
from lastmile.client.availability import AWAY
from lastmile.client.errors import (
    AlreadyRunningError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    PastPivotError,
    RunLostError,
)
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.db.failures import DATABASE_FAILURES, describe_failure, explain
from lastmile.encryption.keys import DecryptionError
from lastmile.errors import InvalidInputError, LastmileError, NonRetryableError, OutageError, UnavailableError
from lastmile.subscribers.errors import (
    CustomerBusyError,
    LineStateError,
    UnknownCustomerError,
    UnknownSubscriberError,
    UnknownTenantError,
)
from lastmile.validation_messages import describe_mistake

__all__ = ["add_problem_handlers", "answer_failure", "to_problem"]

log = structlog.get_logger("lastmile.api")

SLUGS: Mapping[type[Exception], str] = {
    AlreadyRunningError: "subscriber-busy",
    OrderIdReusedError: "order-id-reused",
    OrderRefusedError: "conflict",
    PastPivotError: "past-the-pivot",
    NotRunningError: "not-running",
    RunLostError: "conflict",
    NotScheduledError: "not-scheduled",
    UnknownSubscriberError: "unknown-subscriber",
    UnknownTenantError: "not-found",
    UnknownCustomerError: "not-found",
    LineStateError: "wrong-state",
    CustomerBusyError: "subscriber-busy",
    InvalidInputError: "invalid",
    TemporalUnreachableError: "unavailable",
    UnavailableError: "unavailable",
    DecryptionError: "unavailable",
    OutageError: "unavailable",
    NonRetryableError: "conflict",
}
"""The problem for each error of Lastmile, by the most specific class. An error of no class here is a fault."""

STATUSES = {400: "malformed", 404: "not-found", 405: "method-not-allowed"}
"""The problem for each status that the framework answers with."""

LONGEST_PATH = 200
"""Characters of a path that a problem repeats."""

NOT_JSON = {"json_invalid", "value_error.jsondecode"}


def to_problem(failure: Exception) -> ProblemError | None:
    """Return the problem that tells of the failure; None for a fault of Lastmile."""
    if isinstance(failure, ProblemError):
        return failure
    for kind in type(failure).__mro__:
        if slug := SLUGS.get(kind):
            return ProblemError(slug, str(failure), running=_in_the_way(failure))
    never_connected = isinstance(failure, RuntimeError) and str(failure).startswith("Failed client connect")
    if never_connected or (isinstance(failure, RPCError) and failure.status in AWAY):
        return ProblemError("unavailable", "Temporal does not answer: nothing was changed by this request there.")
    if isinstance(failure, DATABASE_FAILURES) and describe_failure(failure) and (words := explain(failure)):
        return ProblemError("unavailable", f"The database cannot be used: {words}")
    return None


def _in_the_way(failure: Exception) -> dict[str, str] | None:
    """Return the order that is in the way, where the failure knows one."""
    if not isinstance(failure, AlreadyRunningError) or not failure.order_id:
        return None
    href = f"/v1/orders/{failure.order_id}"
    return {"order_id": failure.order_id, "operation": failure.operation, "href": href}


def add_problem_handlers(app: FastAPI) -> None:
    """Have the application answer each failure of a request with a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    for kind in (LastmileError, RPCError, *DATABASE_FAILURES):
        app.add_exception_handler(kind, _failed)


def answer_failure(failure: Exception, request_id: str) -> Response:
    """Return the problem for the failure of a request. A fault of Lastmile is logged."""
    problem = to_problem(failure)
    if problem is None:
        log.error("api.fault", exc_info=failure)
        problem = ProblemError("fault", "The request failed by a fault in Lastmile. Report it with the request id.")
    return problem_response(problem, request_id)


async def _failed(request: Request, failure: Exception) -> Response:
    return answer_failure(failure, request.state.request_id)


async def _of_framework(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    if isinstance(failure.__cause__, ProblemError):
        return problem_response(failure.__cause__, request.state.request_id)
    slug = STATUSES.get(failure.status_code, "malformed")
    headers, words = {}, f"Nothing is at {_path(request)}."
    if slug == "method-not-allowed":
        allowed = ", ".join(sorted(_methods(request)))
        headers, words = {"Allow": allowed}, f"{_path(request)} takes {allowed}, not {request.method}."
    elif slug == "malformed":
        words = "The body cannot be read as JSON. Send JSON in UTF-8."
    return problem_response(ProblemError(slug, words, headers=headers), request.state.request_id)


def _path(request: Request) -> str:
    """Return the path as the client wrote it, shortened."""
    path = request.scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
    return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}…"


def _methods(request: Request) -> set[str]:
    """Return the methods of every route of the path: the framework names those of the first route."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path and compile_path(route.path)[0].match(request.scope["path"]):
            methods |= set(route.methods or ())
    return methods


async def _invalid(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, RequestValidationError)
    found = failure.errors()
    if any(one["type"] in NOT_JSON for one in found):
        return problem_response(
            ProblemError("malformed", "The body cannot be read as JSON. Send JSON in UTF-8."), request.state.request_id
        )
    # A field that may be left out is a union with None, which reports its mistake as well.
    found = [one for one in found if one["type"] != "none_required"] or found
    violations = [_violation(one, failure.body) for one in found]
    unique = list({one.model_dump_json(): one for one in violations}.values())
    many = f"{len(unique)} values are invalid" if len(unique) > 1 else "A value is invalid"
    problem = ProblemError("invalid", f"{many}: `errors` names each with its rule.", errors=unique)
    return problem_response(problem, request.state.request_id)


def _violation(found: Mapping[str, Any], body: Any) -> Violation:
    place, *path = found["loc"]
    words = describe_mistake(found)
    if place == "body" and not path and found["type"] == "missing":
        return Violation(detail="The body is missing. Send a JSON object.", pointer="")
    if place == "body" and found["type"].startswith("union_tag"):
        path.append(found["ctx"]["discriminator"].strip("'"))
    if place == "body":
        return Violation(detail=words, pointer=_pointer(path, body))
    return Violation(detail=words, parameter=".".join(map(str, path)))


def _pointer(path: Sequence[Any], body: Any) -> str:
    """Return the JSON pointer of the path in the body, without the tags of unions, which are in no body."""
    pointer, value = "", body
    for number, part in enumerate(path):
        if pointer and not isinstance(value, dict | list):  # what follows names the member of a union
            break
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if is_there:
            value = value[part]
        elif number < len(path) - 1:
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer
