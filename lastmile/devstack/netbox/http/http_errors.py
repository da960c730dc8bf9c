"""The errors that end a request with an error reply."""

from typing import Any

from lastmile.errors import LastmileError

__all__ = ["HttpError", "InvalidValueError", "not_found"]


class HttpError(LastmileError):
    """An error reply with `status` and `body`, in JSON, or in HTML if the body is a string."""

    def __init__(self, status: int, body: Any, etag: str = "") -> None:
        super().__init__(status, body, etag)
        self.status = status
        self.body = body
        self.etag = etag


class InvalidValueError(LastmileError):
    """A value that NetBox refuses, with NetBox's messages."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = list(messages)


def not_found(name: str) -> HttpError:
    """Return the error for an unknown id. `name` is NetBox's name of the kind of object."""
    return HttpError(404, {"detail": f"No {name} matches the given query."})
