"""Orders as JSON Lines: one object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cli.mistakes import mistakes
from cli.order_record import REJECTED, BadRecord, is_note
from workflows.contract import ProvisionSubscriber

__all__ = ["JsonLines", "JsonRecord", "jsonl_line"]


@dataclass(frozen=True, slots=True)
class JsonRecord:
    """One line."""

    line: int
    raw: bytes

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def is_note(self) -> bool:
        """It says something about the line below, and is no order."""
        fields = self._fields() if REJECTED.encode() in self.raw else None
        return bool(fields) and all(map(is_note, fields or ()))

    def order(self) -> ProvisionSubscriber:
        try:
            return ProvisionSubscriber.model_validate_json(self._without_notes())
        except ValidationError as failure:
            raise BadRecord(mistakes(failure, ProvisionSubscriber)) from None

    def rejected(self, reason: str) -> bytes:
        fields = self._fields()
        if fields is not None:
            return jsonl_line({REJECTED: reason} | {name: fields[name] for name in fields if name != REJECTED})
        # It takes no field: a note stands above it.
        return jsonl_line({REJECTED: reason}) + self.raw.rstrip(b"\r\n") + b"\n"

    def _without_notes(self) -> bytes:
        fields = self._fields() if b'"_' in self.raw else None
        if fields is None:
            return self.raw
        return jsonl_line({name: value for name, value in fields.items() if not is_note(name)})

    def _fields(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.raw)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class JsonLines:
    """A file of them; `lines` come with their numbers."""

    suffix = ".jsonl"

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        self._lines = lines

    def records(self) -> Iterator[JsonRecord]:
        for number, raw in self._lines:
            if raw.strip() and not (record := JsonRecord(number, raw)).is_note:
                yield record

    def head(self) -> bytes:
        return b""


def jsonl_line(fields: Mapping[str, Any]) -> bytes:
    """One object, on a line."""
    # Half of a surrogate pair is JSON (`\\ud800`) and not UTF-8.
    return (json.dumps(fields, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
