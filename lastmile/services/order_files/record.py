"""A record of an order file: what JSON and CSV have in common.

Fields and columns that begin with `_` are notes, such as why an order was rejected: they are not read.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from lastmile.contract import AnyOrder, ProvisionSubscriber
from lastmile.contract.operations import OPERATIONS
from lastmile.errors import LastmileError

__all__ = ["OPERATION", "REJECTED", "FileRecord", "Form", "InvalidRecordError", "is_note", "model_of"]

OPERATION = "operation"
"""The field or column with the operation of an order; without it, the operation is `provision`."""

_MODELS: dict[str, type[AnyOrder]] = {operation: entry.model for operation, entry in OPERATIONS.items()}
_OPERATION_NAMES = ", ".join(f"'{operation}'" for operation in OPERATIONS)

REJECTED = "_rejected"
"""The note with the reason why an order was rejected."""


def is_note(name: str) -> bool:
    return name.startswith("_")


class InvalidRecordError(LastmileError):
    """The record is not a valid order; `mistakes` has the reasons."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = list(mistakes)


def model_of(value: Any) -> tuple[type[AnyOrder], Any]:
    """Return the order's model, and `value` without its operation. Raises `InvalidRecordError`."""
    if not isinstance(value, dict) or OPERATION not in value:
        return ProvisionSubscriber, value
    named = value[OPERATION]
    if (model := _MODELS.get(named.lower() if isinstance(named, str) else "")) is None:
        raise InvalidRecordError([f"{OPERATION}: must be one of {_OPERATION_NAMES}, and is {named!r}"])
    return model, {name: inner for name, inner in value.items() if name != OPERATION}


class FileRecord(Protocol):
    """A record in the place of an order."""

    @property
    def line(self) -> int:
        """The number of its first line, from 1."""

    @property
    def size(self) -> int:
        """The size in bytes."""

    def order(self) -> AnyOrder:
        """Return the order. Raises `InvalidRecordError`."""

    def rejected(self, reason: str) -> bytes:
        """Return the complete record with the reason as a note, to be fixed and read again."""


class Form(Protocol):
    """The format of an order file."""

    suffix: str

    def records(self) -> Iterator[FileRecord]:
        """Yield the records. Raises `InvalidInputError` if the file has another format."""

    def head(self) -> bytes:
        """Return the first line of a file of rejected orders."""
