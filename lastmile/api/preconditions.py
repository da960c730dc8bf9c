"""Conditional requests (RFC 9110 section 13): `ETag` of a record, `If-None-Match` to read it, `If-Match` to change it.

The ETag is a hash of the record as the caller sees it. A version of one row would not do: the record of a subscriber
comes from nine tables. A hash also stays the same when the database is restored from a dump.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from lastmile.api.problems import ProblemError, Violation

__all__ = ["NOT_MODIFIED", "IfMatch", "IfNoneMatch", "RequiredIfMatch", "entity_tag"]

RecordT = TypeVar("RecordT", bound=BaseModel)

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The record has the ETag of `If-None-Match`."}}
"""The additional answer of a route that reads with `IfNoneMatch`."""

_TAGS = re.compile(r'\s*((?:W/)?"[!#-~]*")\s*(?:,|$)')
_ANY = "*"


def entity_tag(record: BaseModel) -> str:
    """Return the strong ETag of the record."""
    return f'"{hashlib.sha256(record.model_dump_json().encode()).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class _IfNoneMatch:
    tags: frozenset[str]
    response: Response

    def answer(self, record: RecordT) -> RecordT | Response:
        """Return the record with its ETag, or 304 without a body where the caller has it already."""
        tag = entity_tag(record)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if self.tags & {tag, _ANY}:
            return Response(status_code=304, headers=headers)
        self.response.headers.update(headers)
        return record


@dataclass(frozen=True, slots=True)
class _IfMatch:
    tags: frozenset[str] | None
    """None: the request has no `If-Match`."""

    def check(self, record: BaseModel) -> None:
        """Raise the problem `changed-meanwhile` where the caller has seen another state of the record."""
        if self.tags is None or self.tags & {entity_tag(record), _ANY}:
            return
        words = (
            "The record has changed since the ETag of If-Match. Read it again, and send the change with its new ETag."
        )
        raise ProblemError("changed-meanwhile", words)


async def _if_none_match(
    response: Response,
    if_none_match: Annotated[
        str | None, Header(max_length=2000, description="ETags that the caller has: 304 where the record has one.")
    ] = None,
) -> _IfNoneMatch:
    return _IfNoneMatch(frozenset(tag.removeprefix("W/") for tag in _read("If-None-Match", if_none_match)), response)


async def _if_match(
    if_match: Annotated[
        str | None,
        Header(max_length=2000, description="The ETag of the record that the change is for: 412 where it has changed."),
    ] = None,
) -> _IfMatch:
    return _IfMatch(None if if_match is None else _read("If-Match", if_match))


async def _required_if_match(request: Request, found: Annotated[_IfMatch, Depends(_if_match)]) -> _IfMatch:
    if found.tags is None:
        words = f"{request.method} needs If-Match: the ETag of the record that you have read, or * to overwrite."
        raise ProblemError("precondition-required", words)
    return found


IfNoneMatch = Annotated[_IfNoneMatch, Depends(_if_none_match)]
"""The parameter of a route that reads one record."""
IfMatch = Annotated[_IfMatch, Depends(_if_match)]
"""The parameter of a route that changes a record."""
RequiredIfMatch = Annotated[_IfMatch, Depends(_required_if_match)]
"""As `IfMatch`, where two callers would overwrite each other: a request without it is answered with 428."""


def _read(header: str, written: str | None) -> frozenset[str]:
    """Return the tags of the header, or `*`. A weak tag of `If-Match` matches nothing."""
    if written is None or written.strip() == _ANY:
        return frozenset() if written is None else frozenset([_ANY])
    tags, end = [], 0
    while found := _TAGS.match(written, end):
        tags.append(found[1])
        end = found.end()
    if not tags or end != len(written):
        wrong = Violation(detail='must be * or ETags in double quotes, as in "5d41402abc4b2a76"', parameter=header)
        raise ProblemError("invalid", f"{header} cannot be read.", errors=[wrong])
    return frozenset(tags)
