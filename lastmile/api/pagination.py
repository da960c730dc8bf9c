"""Pages of a list: `limit` and `cursor` in the query, `results` and `next` in the answer.

A cursor is the sort key of the last record of a page, with a digest of the request's filter, and a signature. So a
client cannot make a cursor, nor use it with another filter.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field

from lastmile.api.context import Context
from lastmile.api.problems import ProblemError, Violation
from lastmile.services.records.cursor_key import read_cursor_key
from lastmile.services.records.pages import Page, PageRequest, SortKey

__all__ = ["PageOf", "Paging"]

T = TypeVar("T")

LARGEST_PAGE = 1000
_SIGNATURE_BYTES = 16
_WITHOUT_FILTER = ("cursor", "limit")


class PageOf(BaseModel, Generic[T]):
    """A page of a list."""

    results: list[T]
    next: str | None = Field(description="The path of the next page. null: this is the last page.")


@dataclass(frozen=True, slots=True)
class _Paging:
    """The page that a request asks for."""

    request: PageRequest
    path: str
    filter: Sequence[tuple[str, str]]
    key: bytes

    def answer(self, page: Page[T]) -> PageOf[T]:
        """Return the answer with the path of the next page."""
        if page.after is None:
            return PageOf(results=page.results, next=None)
        cursor = _write(self.key, self.path, self.filter, page.after)
        query = [*self.filter, ("limit", str(self.request.limit)), ("cursor", cursor)]
        return PageOf(results=page.results, next=f"{self.path}?{urlencode(query)}")


async def _paging(
    request: Request,
    context: Context,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="The largest number of results.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=2000, description="The place of the page, from `next` of the page before.")
    ] = None,
) -> _Paging:
    if (key := getattr(request.app.state, "cursor_key", None)) is None:
        key = request.app.state.cursor_key = await read_cursor_key(context.database)
    wanted = [(name, value) for name, value in request.query_params.multi_items() if name not in _WITHOUT_FILTER]
    after = None if cursor is None else _read(key, request.url.path, wanted, cursor)
    return _Paging(PageRequest(limit, after), request.url.path, wanted, key)


Paging = Annotated[_Paging, Depends(_paging)]
"""The parameter of a route that lists something."""


def _write(key: bytes, path: str, wanted: Sequence[tuple[str, str]], after: SortKey) -> str:
    content = json.dumps([_digest(path, wanted), *after]).encode()
    return base64.urlsafe_b64encode(_sign(key, content) + content).decode().rstrip("=")


def _read(key: bytes, path: str, wanted: Sequence[tuple[str, str]], cursor: str) -> SortKey:
    """Return the sort key of the cursor. Raises `ProblemError` for a cursor of another list, filter or installation."""
    try:
        written = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        written = b""
    signature, content = written[:_SIGNATURE_BYTES], written[_SIGNATURE_BYTES:]
    if hmac.compare_digest(signature, _sign(key, content)):
        digest, *after = json.loads(content)
        if digest == _digest(path, wanted):
            return tuple(after)
    words = "The cursor does not belong to this list with these filters: follow `next`, or begin without a cursor."
    wrong = Violation(detail="must be the cursor in `next` of the page before", parameter="cursor")
    raise ProblemError("invalid", words, errors=[wrong])


def _sign(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:_SIGNATURE_BYTES]


def _digest(path: str, wanted: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([path, *sorted(wanted)]).encode()).hexdigest()[:16]
