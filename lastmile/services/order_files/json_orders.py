"""Orders as JSON: one object a line, or one array, or objects over several lines."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from lastmile.contract import AnyOrder
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.record import REJECTED, InvalidRecordError, is_note, model_of
from lastmile.services.order_files.strict_json import InvalidJsonError, json_line, parse, repeated_fields
from lastmile.validation_messages import mistakes

__all__ = ["JsonDocument", "JsonLines", "JsonRecord", "is_document"]

# Bytes. A document is read as a whole, and takes about ten times its size in memory.
LARGEST_DOCUMENT = 2**26

_SPACE = re.compile(r"[ \t\r\n]*")

_CONVERT = "write JSON Lines, one order a line; `jq -c '.[]'` does that with an array"


@dataclass(frozen=True)
class JsonRecord:
    """A record of a JSON file."""

    line: int
    raw: bytes

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def is_note(self) -> bool:
        """The record is a note about the next line, and not an order."""
        fields = self._fields if REJECTED.encode() in self.raw else None
        return bool(fields) and all(map(is_note, fields or ()))

    def order(self) -> AnyOrder:
        try:
            value = self._value
        except InvalidJsonError as failure:
            raise InvalidRecordError([str(failure)]) from None
        if isinstance(value, dict):
            # Before the notes are removed: only the object that the parser made knows its repeated fields.
            if repeated := list(repeated_fields(value)):
                raise InvalidRecordError([f"{field}: is given more than once" for field in repeated])
            value = {name: inner for name, inner in value.items() if not is_note(name)}
        model, value = model_of(value)
        try:
            return model.model_validate(value)
        except ValidationError as failure:
            raise InvalidRecordError(mistakes(failure, model)) from None

    def rejected(self, reason: str) -> bytes:
        fields = self._fields
        if fields is None or any(repeated_fields(fields)):
            # A field cannot be added without loss: the reason is a note on the line above.
            return json_line({REJECTED: reason}) + b" ".join(self.raw.splitlines()).strip() + b"\n"
        return json_line({REJECTED: reason} | {name: fields[name] for name in fields if name != REJECTED})

    @cached_property
    def _value(self) -> Any:
        """Raises `InvalidJsonError`."""
        text = self.raw.decode(errors="surrogateescape").strip()
        value, end = parse(text)
        if end < len(text):
            raise InvalidJsonError(f"Invalid JSON: the line goes on after its object, at character {end + 1}")
        return value

    @property
    def _fields(self) -> dict[str, Any] | None:
        try:
            value = self._value
        except InvalidJsonError:
            return None
        return value if isinstance(value, dict) else None


class JsonLines:
    """A file with one object a line, from numbered `lines`."""

    suffix = ".jsonl"

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        self._lines = lines

    def records(self) -> Iterator[JsonRecord]:
        for number, raw in self._lines:
            if raw.strip() and not (record := JsonRecord(number, raw)).is_note:
                yield record

    def head(self) -> bytes:
        return b""


class JsonDocument:
    """A file with one array of orders, or with orders of several lines. Its rejects are JSON Lines."""

    suffix = ".jsonl"

    def __init__(self, name: str, lines: Iterable[tuple[int, bytes]]) -> None:
        self._name = name
        self._lines = lines

    def records(self) -> Iterator[JsonRecord]:
        """Yield the orders. Raises `InvalidInputError` before the first order unless all of the document is JSON."""
        text = self._text()
        for line, start, end in self._places(text):
            yield JsonRecord(line, text[start:end].encode(errors="surrogateescape"))

    def _places(self, text: str) -> list[tuple[int, int, int]]:
        """Return the line, the start and the end of each order."""
        places: list[tuple[int, int, int]] = []
        line, counted = 1, 0
        place = _after_space(text, 0)
        in_array = text.startswith("[", place)
        more = not in_array or not text.startswith("]", _after_space(text, place + 1))
        place += in_array
        while more:
            start = _after_space(text, place)
            line, counted = line + text.count("\n", counted, start), start
            try:
                _, end = parse(text, start)
            except InvalidJsonError as failure:
                raise self._not_json(text, failure.position) from None
            places.append((line, start, end))
            place = _after_space(text, end)
            more = text.startswith(",", place) if in_array else place < len(text)
            place += in_array and more
        if in_array:
            if not text.startswith("]", _after_space(text, place)):
                raise self._not_json(text, place)
            place = _after_space(text, _after_space(text, place) + 1)
        if place < len(text):
            raise self._not_json(text, place)
        return places

    def _not_json(self, text: str, place: int) -> InvalidInputError:
        if place >= len(text):
            return InvalidInputError(f"{self._name} cannot be read: its JSON is incomplete: the file may be cut off.")
        line = text.count("\n", 0, place) + 1
        character = place - text.rfind("\n", 0, place)
        return InvalidInputError(f"{self._name} cannot be read: invalid JSON on line {line}, at character {character}.")

    def head(self) -> bytes:
        return b""

    def _text(self) -> str:
        parts: list[str] = []
        size = first = 0
        for number, raw in self._lines:
            first = first or number
            size += len(raw)
            if size > LARGEST_DOCUMENT:
                raise InvalidInputError(
                    f"{self._name} is a JSON document of more than {LARGEST_DOCUMENT >> 20} MiB: {_CONVERT}."
                )
            parts.append(raw.decode(errors="surrogateescape"))
        return "\n" * (first - 1) + "".join(parts)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def is_document(first: bytes, second: bytes | None) -> bool:
    """Tell by the first two lines whether a JSON file is a document, and not JSON Lines."""
    text = first.decode(errors="surrogateescape").strip()
    if text.startswith("["):
        return True
    if second is None or second.lstrip().startswith(b"{"):
        return False
    try:
        parse(text)
    except InvalidJsonError as failure:
        return failure.end
    return False
