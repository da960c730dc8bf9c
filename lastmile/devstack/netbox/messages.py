"""Requests and replies, without the wire."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lastmile.devstack.netbox.http_errors import HttpError

__all__ = ["Reply", "Request"]

_PAGE = 50


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    if_match: str = ""
    root: str = ""
    """`http://host:port` as the client names us."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def json(self) -> Any:
        """The body.

        Raises:
            Problem: 400 or 415.
        """
        content_type = self.content_type.partition(";")[0].strip()
        if content_type != "application/json":
            raise HttpError(415, {"detail": f'Unsupported media type "{content_type}" in request.'})
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HttpError(400, {"detail": f"JSON parse error - {error}"}) from None

    def items(self) -> list[Any]:
        """The body of a bulk operation: a list of objects, each with its id.

        Raises:
            Problem: 400 or 415.
        """
        body = self.json()
        if not isinstance(body, list):
            raise HttpError(400, {"non_field_errors": ['Expected a list of items but got type "dict".']})
        named = [isinstance(one, dict) and "id" in one for one in body]
        if not all(named):
            raise HttpError(400, [{} if good else {"id": ["This field is required."]} for good in named])
        return body

    def number(self, name: str, default: int) -> int:
        """A parameter of the query that is a number; anything else is the default."""
        text = self.query.get(name, [""])[-1]
        return int(text) if text.isdigit() else default

    def limit(self, most: int) -> int:
        """How many objects to show; `most` is NetBox's `MAX_PAGE_SIZE`."""
        limit = self.number("limit", _PAGE)
        return min(limit, most) if limit else most


@dataclass(frozen=True)
class Reply:
    """`body` is sent as JSON; as HTML where it is a string; None is no body at all."""

    status: int
    body: Any = None
    location: str = ""
    etag: str = ""
