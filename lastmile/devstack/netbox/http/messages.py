"""Requests and replies, independent of HTTP."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lastmile.devstack.netbox.http.http_errors import HttpError

__all__ = ["Reply", "Request"]

_PAGE = 50


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    if_match: str = ""
    root: str = ""
    """The base URL that the client used: `http://host:port`."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def json(self) -> Any:
        """Return the decoded body.

        Raises:
            HttpError: 400 or 415.
        """
        content_type = self.content_type.partition(";")[0].strip()
        if content_type != "application/json":
            raise HttpError(415, {"detail": f'Unsupported media type "{content_type}" in request.'})
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HttpError(400, {"detail": f"JSON parse error - {error}"}) from None

    def items(self) -> list[Any]:
        """Return the body of a bulk operation: a list of objects, each with its id.

        Raises:
            HttpError: 400 or 415.
        """
        body = self.json()
        if not isinstance(body, list):
            raise HttpError(400, {"non_field_errors": ['Expected a list of items but got type "dict".']})
        named = [isinstance(one, dict) and "id" in one for one in body]
        if not all(named):
            raise HttpError(400, [{} if good else {"id": ["This field is required."]} for good in named])
        return body

    def number(self, name: str, default: int) -> int:
        """Return a number in the query; the default if the parameter is missing or not a number."""
        text = self.query.get(name, [""])[-1]
        return int(text) if text.isdigit() else default

    def limit(self, most: int) -> int:
        """Return the number of objects in a page; `most` is NetBox's `MAX_PAGE_SIZE`."""
        limit = self.number("limit", _PAGE)
        return min(limit, most) if limit else most


@dataclass(frozen=True)
class Reply:
    """A reply. The body is sent in JSON, or in HTML if it is a string. None means no body."""

    status: int
    body: Any = None
    location: str = ""
    etag: str = ""
