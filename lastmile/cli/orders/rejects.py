"""The file of what was rejected: the orders as they were sent, each with the reason, to be fixed and sent again."""

import shlex
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lastmile.errors import InvalidInputError
from lastmile.services.order_files.record import FileRecord, Form

__all__ = ["Rejects"]


class Rejects:
    """Made with the first one; takes the place of an earlier file, whose orders are all judged anew."""

    def __init__(self, source: str, target: Path | None, form: Form) -> None:
        if target is None and source != "-":
            target = Path(source).with_suffix(f".rejects{form.suffix}")
        if target is not None and source != "-" and target.resolve() == Path(source).resolve():
            raise InvalidInputError(f"--rejects: {target} is the file of orders itself.")
        self.path = target
        self.trouble = ""
        """Why it could not be written: then its orders are missing in it."""
        self.count = 0
        self._form = form
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Away with those of an earlier run."""
        if self.path is not None:
            with suppress(OSError):  # what cannot be removed cannot be written either, and only then it matters
                self.path.unlink()

    def add(self, record: FileRecord, reason: str) -> None:
        """Whole lines, in one write: whatever happens, the file can be read."""
        self.count += 1
        if self.path is None or self.trouble:
            return
        words = record.rejected(" ".join(reason.split()))
        try:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
                words = self._form.head() + words
            self._file.write(words)
        except OSError as failure:
            self.trouble = f"{self.path} cannot be written: {failure.strerror}"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def words(self) -> str:
        """Where they are, and what to do with them; empty where there are none."""
        if not self.count:
            return ""
        these = "One order was rejected" if self.count == 1 else f"{self.count:,} orders were rejected"
        if self.trouble:
            return f"{these}, and {self.trouble}. Name another file with --rejects, and send the same orders again."
        if self.path is None:
            return f"{these}. With --rejects FILE, the same orders again write them to a file with the reasons."
        command = shlex.join(["lastmile", "provision", str(self.path)])
        return f"{these}: fix them in {self.path}, which names the reasons, and submit that file: {command}"
