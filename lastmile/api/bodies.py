"""The bodies of requests: strict JSON in UTF-8 (RFC 8259)."""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from fastapi import Request

from lastmile.api.problems import ProblemError

__all__ = ["JsonRequest", "read_json"]

_JSON = re.compile(r"application/([!#$&^_.+a-z0-9-]+\+)?json", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?utf-?8\"?\s*(?=;|$)", re.IGNORECASE)
_ANY_CHARSET = re.compile(r";\s*charset\s*=", re.IGNORECASE)


class JsonRequest(Request):
    """A request whose body is read as strict JSON."""

    _document: Any = None

    @classmethod
    async def of(cls, request: Request) -> "JsonRequest":
        """Read the body of the request.

        Raises:
            ProblemError: the body has another media type, or is no JSON.
        """
        read = cls(request.scope, request.receive)
        if body := await read.body():
            _check_media_type(request.headers.get("content-type", ""))
            read._document = read_json(body)
        return read

    async def json(self) -> Any:
        return self._document


def _check_media_type(written: str) -> None:
    """Raise the problem `unsupported-media-type` for anything but JSON in UTF-8."""
    if not _JSON.fullmatch(written.partition(";")[0].strip()):
        named = f"and is {written[:100]!r}" if written else "and the request has no header Content-Type"
        raise ProblemError("unsupported-media-type", f"The body must be `application/json`, {named}.")
    if _ANY_CHARSET.search(written) and not _CHARSET.search(written):
        raise ProblemError("unsupported-media-type", f"The body must be JSON in UTF-8, and is {written[:100]!r}.")


def read_json(body: bytes) -> Any:
    """Parse the JSON text. A name that an object has twice is refused: which value counts would be a guess.

    Raises:
        ProblemError: the body is no JSON, with the place.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        _malformed(f"byte {failure.start + 1} is no UTF-8")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as failure:
        _malformed(f"the mistake is in line {failure.lineno}, column {failure.colno}")
    except RecursionError:
        _malformed("it is nested too deeply")
    except ValueError:  # Python reads no integer of more than 4300 digits
        _malformed("a number has too many digits")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _malformed(f"an object has the name {json.dumps(twice[:60])} twice")
    return made


def _no_number(written: str) -> NoReturn:
    _malformed(f"{written} is no number of JSON")


def _malformed(words: str) -> NoReturn:
    raise ProblemError("malformed", f"The body cannot be read as JSON: {words}. Send JSON in UTF-8.")
