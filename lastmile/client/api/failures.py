"""Turn the answers of the API that are no success into the errors that the client over Temporal raises."""

from collections.abc import Mapping
from typing import Any

import httpx

from lastmile.client.errors import (
    AlreadyRunningError,
    ClientError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    PastPivotError,
)
from lastmile.errors import InvalidInputError, LastmileError, UnavailableError
from lastmile.fields.unsafe import escape
from lastmile.subscribers.errors import LineStateError, UnknownSubscriberError

__all__ = ["AccessRefusedError", "ApiUnavailableError", "to_error"]


class AccessRefusedError(InvalidInputError):
    """The API does not accept the token, or the token does not permit the request."""


class ApiUnavailableError(UnavailableError):
    """The API does not answer, or not now: the same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """The seconds after which the API expects to answer; None: unknown."""


_KINDS: Mapping[str, type[LastmileError]] = {
    "subscriber-busy": AlreadyRunningError,
    "order-id-reused": OrderIdReusedError,
    "past-the-pivot": PastPivotError,
    "not-running": NotRunningError,
    "not-scheduled": NotScheduledError,
    "unknown-subscriber": UnknownSubscriberError,
    "wrong-state": LineStateError,
    "unauthorized": AccessRefusedError,
    "forbidden": AccessRefusedError,
    "wrong-tenant": AccessRefusedError,
}
"""The error for each type of problem. Other problems of the request are a `ClientError`."""


def to_error(answer: httpx.Response, url: str) -> LastmileError:
    """Return the error for an answer without success. `url` is the address of the API."""
    if answer.is_redirect:
        place = escape(answer.headers.get("Location", "another address"))
        return UnavailableError(f"{url} redirects to {place}. Set LASTMILE_API_URL to the address of the API itself.")
    problem = _problem(answer)
    if problem is None:
        return ApiUnavailableError(
            f"{url} answers with status {answer.status_code}, and not as Lastmile's API does. Check LASTMILE_API_URL, "
            "and the proxy in front of the API.",
            retry_after=_retry_after(answer),
        )
    slug, detail = str(problem["type"]).rpartition("/")[2], escape(str(problem.get("detail", "")))
    match slug:
        case "subscriber-busy":
            running = problem.get("running") or {}
            return AlreadyRunningError(
                detail, order_id=str(running.get("order_id", "")), operation=str(running.get("operation", ""))
            )
        case "unauthorized":
            return AccessRefusedError(f"The API does not accept LASTMILE_API_TOKEN: {detail}")
        case "too-many-requests" | "unavailable":
            return ApiUnavailableError(f"The API cannot answer now: {detail}", retry_after=_retry_after(answer))
        case "invalid":
            return InvalidInputError(detail, [_violation(one) for one in problem.get("errors") or ()])
        case "fault":
            request = escape(str(problem.get("instance", "unknown")))
            return UnavailableError(f"The API failed by a fault in Lastmile. Report it with the request id {request}.")
    return _KINDS.get(slug, ClientError)(detail)


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    """Return the problem (RFC 9457); None for an answer of something else than the API."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("type"), str) else None


def _retry_after(answer: httpx.Response) -> float | None:
    written = answer.headers.get("Retry-After", "")
    return float(written) if written.isdecimal() else None


def _violation(found: Mapping[str, Any]) -> str:
    where = found.get("pointer") or found.get("parameter") or ""
    return escape(f"{where}: {found.get('detail', '')}".removeprefix(": "))
