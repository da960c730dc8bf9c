"""The problems that the API answers with (RFC 9457), as data: each type with its status, its title and its remedy.

`type` of a problem is the path of a page of this API that says what to do: `/problems/<slug>`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from lastmile.errors import LastmileError

__all__ = ["PROBLEM_TYPES", "Problem", "ProblemError", "ProblemType", "Violation", "problem_response"]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem. The remedy is the text of its page."""

    slug: str
    status: int
    title: str
    remedy: str

    @property
    def path(self) -> str:
        """The page of this type, relative to the address of the API."""
        return f"/problems/{self.slug}"


_TYPES = (
    ProblemType("malformed", 400, "The request is malformed", "Correct the request. Its body must be JSON in UTF-8."),
    ProblemType(
        "unauthorized",
        401,
        "The request has no valid token",
        "Send `Authorization: Bearer` with an API key (`lastmile api-key add`) or a token of the configured issuer. A "
        "webhook needs the secret or the signature of its source (`lastmile hooks add`).",
    ),
    ProblemType(
        "forbidden", 403, "The token lacks a permission", "Use a token with the permission that the detail names."
    ),
    ProblemType(
        "wrong-tenant",
        403,
        "The token is for another tenant",
        "Leave the tenant out, or name the tenant of the token.",
    ),
    ProblemType(
        "cross-origin",
        403,
        "The page of another origin may not send the request",
        "Name the origin of the page in LASTMILE_API_CORS_ORIGINS, and use methods and headers of the reference.",
    ),
    ProblemType(
        "not-found", 404, "Nothing is here", "Check the path and the ids in it. Records of other tenants look absent."
    ),
    ProblemType(
        "unknown-subscriber", 404, "The subscriber is unknown", "Check the reference, or provision the subscriber."
    ),
    ProblemType("method-not-allowed", 405, "The path has no such method", "Use a method of the header `Allow`."),
    ProblemType("not-acceptable", 406, "The answer has no such format", "Accept `application/json`."),
    ProblemType(
        "request-timeout",
        408,
        "The request did not arrive in time",
        "Send the whole request within 30 seconds. Split a body that a slow line cannot send in that time.",
    ),
    ProblemType("conflict", 409, "The request does not fit the present state", "The detail says what comes first."),
    ProblemType(
        "subscriber-busy",
        409,
        "Another order of the subscriber is running",
        "Wait for that order, cancel it, or send the order with `when_busy: wait`.",
    ),
    ProblemType(
        "order-id-reused",
        409,
        "The order id belongs to an order with other content",
        "Send each order with an id of its own. To repeat an order, send the same content.",
    ),
    ProblemType(
        "wrong-state", 409, "The order does not fit the state of the line", "The detail says which order comes first."
    ),
    ProblemType(
        "past-the-pivot",
        409,
        "The order is past its point of no return",
        "Wait for its end. Then send the order that undoes it, for example `deprovision`.",
    ),
    ProblemType("not-running", 409, "No order is running", "Read the order: it has ended, or has not started."),
    ProblemType(
        "not-scheduled", 409, "The order waits for no date", "Only an order that has not started can be moved."
    ),
    ProblemType("gone", 410, "The resource was used up or has expired", "Create another one."),
    ProblemType(
        "changed-meanwhile", 412, "The resource has changed", "Read it again, and repeat the change with its new ETag."
    ),
    ProblemType("too-large", 413, "The body is too large", "Send at most 1 MiB. Split the request, or use a job."),
    ProblemType("unsupported-media-type", 415, "The body has another media type", "Send `application/json` in UTF-8."),
    ProblemType(
        "invalid",
        422,
        "The request has invalid values",
        "Correct every value that `errors` names, and repeat the request.",
    ),
    ProblemType(
        "idempotency-key-reused",
        422,
        "The Idempotency-Key belongs to another request",
        "Send each request with a key of its own.",
    ),
    ProblemType(
        "precondition-required", 428, "The change needs an ETag", "Read the resource, and send its ETag as `If-Match`."
    ),
    ProblemType("headers-too-large", 431, "The headers are too large", "Send at most 64 KiB of headers and address."),
    ProblemType("too-many-requests", 429, "The rate limit is used up", "Wait for the seconds of `Retry-After`."),
    ProblemType(
        "fault", 500, "A fault in Lastmile", "Report it with the request id. The logs of the API have the reason."
    ),
    ProblemType(
        "unavailable", 503, "A system behind the API is away", "Repeat the request after the seconds of `Retry-After`."
    ),
    ProblemType(
        "timeout",
        503,
        "The request took too long",
        "Repeat the request after the seconds of `Retry-After`. An order keeps its id: it is accepted once.",
    ),
)

PROBLEM_TYPES: Mapping[str, ProblemType] = {problem.slug: problem for problem in _TYPES}
"""The problem types by slug."""

RETRY_AFTER_SECONDS = 5
"""How soon a request is worth repeating while a system is away."""

UNREAD = (408, 431)
"""The statuses after which the rest of the request is not read: the connection is closed."""


class Violation(BaseModel):
    """One invalid value of a request."""

    detail: str = Field(description="The rule, and the value where it is no secret.")
    pointer: str | None = Field(default=None, description="The value in the body, as a JSON pointer (RFC 6901).")
    parameter: str | None = Field(default=None, description="The parameter of the path or the query, or the header.")


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field(description="The page that says what to do.")
    title: str
    status: int
    detail: str = Field(description="What happened, where, and what to do.")
    instance: str = Field(description="The request, as `X-Request-ID` names it.")
    errors: list[Violation] | None = Field(default=None, description="Every invalid value at once.")
    running: dict[str, Any] | None = Field(default=None, description="The order that is in the way.")


class ProblemError(LastmileError):
    """A request that the API answers with a problem. `extra` are members of `Problem` next to the detail."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Violation] = (),
        headers: Mapping[str, str] | None = None,
        running: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = PROBLEM_TYPES[slug]
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.running = None if running is None else dict(running)


_TOKEN = re.compile(r"lm_[0-9a-f_]{6,}|eyJ[A-Za-z0-9_.-]{6,}")
"""The beginning of an API key or of a JSON Web Token, and what follows it."""


def _without_tokens(text: str) -> str:
    """Mask tokens: a caller can put one into an address or a field by mistake, and programs log problems."""
    return _TOKEN.sub("(a token)", text)


def problem_response(error: ProblemError, request_id: str) -> JSONResponse:
    """Return the answer for the problem, with the headers that its status needs."""
    problem = Problem(
        type=error.type.path,
        title=error.type.title,
        status=error.type.status,
        detail=_without_tokens(str(error)),
        instance=request_id,
        errors=[one.model_copy(update={"detail": _without_tokens(one.detail)}) for one in error.errors] or None,
        running=error.running,
    )
    headers = dict(error.headers)
    if error.type.status == 503:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    if error.type.status in UNREAD:
        headers["Connection"] = "close"
    return JSONResponse(problem.model_dump(exclude_none=True), error.type.status, headers, MEDIA_TYPE)
