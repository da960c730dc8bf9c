"""The lines of a text file in UTF-8 or UTF-16 with any line ends, as editors and spreadsheets write them."""

import codecs
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from lastmile.errors import InvalidInputError

__all__ = ["LONGEST_LINE", "TextLines"]

# Bytes. A longer line is not an order: the file is of another kind, and its line must not fill the memory.
LONGEST_LINE = 2**20

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVE = b"PK\x03\x04"  # .xlsx and .ods files


class TextLines:
    """The lines of an open file, in UTF-8. Raises `InvalidInputError` if the file is not text."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        with self._reading():
            first = stream.readline(LONGEST_LINE + 1)
            if first.startswith(_ARCHIVE):
                raise InvalidInputError(
                    f"{name} is a spreadsheet or an archive, and not text: save it as CSV in UTF-8."
                )
            self.recoded = first.startswith(_UTF_16)
            """The lines are not the bytes of the file: it is in UTF-16."""
            encoding = "utf-16" if self.recoded else "utf-8-sig"
            if not self.recoded and b"\0" in first:
                raise InvalidInputError(f"{name} has NUL characters on line 1: save it as text in UTF-8.")
            # Only if the first line has one: in other files a single carriage return is part of a cell.
            by_cr = "\r" in first.decode(encoding, "ignore").rstrip("\r\n")
            self._text = io.TextIOWrapper(
                io.BufferedReader(_Rejoined(first, stream)),
                encoding=encoding,
                # Bytes that are not UTF-8 stay: the model refuses them, and the file of rejects shows them.
                errors="strict" if self.recoded else "surrogateescape",
                newline="\r" if by_cr else "\n",
            )

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line with its number, from 1."""
        number = 0
        with self._reading():
            while line := self._text.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    array = " Write one order a line: `jq -c '.[]'` does that with an array." if line[0] == "[" else ""
                    raise InvalidInputError(
                        f"{self._name} cannot be read: line {number} is too long for an order.{array}"
                    )
                yield number, line.encode(errors="surrogateescape")

    def _reading(self) -> "_Reading":
        return _Reading(self._name)


class _Reading:
    """A context that raises each failure to read as `InvalidInputError` with the name of the file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _: object, failure: BaseException | None, __: object) -> None:
        if isinstance(failure, UnicodeDecodeError):
            raise InvalidInputError(
                f"{self._name} cannot be read: it begins as UTF-16, and is not: save it as UTF-8."
            ) from None
        if isinstance(failure, OSError):
            raise InvalidInputError(f"{self._name} cannot be read: {failure.strerror}.") from None


class _Rejoined(io.RawIOBase):
    """A stream that begins with the line that was read from it already."""

    def __init__(self, first: bytes, stream: Any) -> None:
        self._ahead = first
        self._stream = stream

    def readable(self) -> bool:
        return True

    # The callers pass a memoryview; typeshed asks for every writable buffer.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._ahead or self._stream.read1(len(buffer))
        size = min(len(chunk), len(buffer))
        buffer[:size] = chunk[:size]
        self._ahead = chunk[size:]
        return size
