"""What ends a request early: an answer other than the one asked for."""

from typing import Any

from lastmile.errors import LastmileError

__all__ = ["HttpError", "InvalidValueError", "not_found"]


class HttpError(LastmileError):
    """Answered with `status` and `body`, as JSON, or as HTML where it is a string."""

    def __init__(self, status: int, body: Any, etag: str = "") -> None:
        super().__init__(status, body, etag)
        self.status = status
        self.body = body
        self.etag = etag


class InvalidValueError(LastmileError):
    """A value that NetBox refuses; `messages` are its own words."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = list(messages)


def not_found(name: str) -> HttpError:
    """There is no object of this id; `name` is what NetBox calls its kind."""
    return HttpError(404, {"detail": f"No {name} matches the given query."})
