"""The file of rejected orders: each order as it was sent, with the reason, to be fixed and submitted again."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lastmile.errors import InvalidInputError
from lastmile.services.order_files.record import FileRecord, Form

__all__ = ["RejectsFile"]


class RejectsFile:
    """Written beside the file of orders, or at `target`. The first rejected order creates it.

    It replaces the file of an earlier import, because that import's orders are all submitted again.
    """

    def __init__(self, source: str, target: Path | None, form: Form) -> None:
        if target is None and source != "-":
            target = Path(source).with_suffix(f".rejects{form.suffix}")
        if target is not None and source != "-" and target.resolve() == Path(source).resolve():
            raise InvalidInputError(f"--rejects: {target} is the file of orders itself.")
        self.path = target
        self.failure = ""
        """Why the file could not be written; then its orders are missing."""
        self.count = 0
        self._form = form
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Delete the file of an earlier import."""
        if self.path is not None:
            with suppress(OSError):  # a file that cannot be deleted cannot be written either: `add` reports that
                self.path.unlink()

    def add(self, record: FileRecord, reason: str) -> None:
        """Append the order in one write of whole lines: the file is readable after a crash."""
        self.count += 1
        if self.path is None or self.failure:
            return
        content = record.rejected(" ".join(reason.split()))
        try:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
                content = self._form.head() + content
            self._file.write(content)
        except OSError as failure:
            self.failure = f"{self.path} cannot be written: {failure.strerror}"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
