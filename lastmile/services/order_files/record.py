"""One order of a file as it stands there: what JSON Lines and CSV have in common.

Fields and columns that begin with `_` are notes, such as why an order was rejected: they are not read.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from lastmile.contract import AnyOrder, ProvisionSubscriber
from lastmile.contract.operations import OPERATIONS
from lastmile.errors import LastmileError

__all__ = ["OPERATION", "REJECTED", "FileRecord", "Form", "InvalidRecordError", "is_note", "model_of"]

OPERATION = "operation"
"""The field or column that says what an order does; without it, an order provisions."""

_MODELS: dict[str, type[AnyOrder]] = {operation: entry.model for operation, entry in OPERATIONS.items()}
_OPERATION_NAMES = " or ".join(f"'{operation}'" for operation in OPERATIONS)

REJECTED = "_rejected"
"""The note that says why an order stands in a rejects file."""


def is_note(name: str) -> bool:
    return name.startswith("_")


class InvalidRecordError(LastmileError):
    """This is no order, for these reasons."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = list(mistakes)


def model_of(value: Any) -> tuple[type[AnyOrder], Any]:
    """Return the order's model, and `value` without its operation. Raises `InvalidRecordError`."""
    if not isinstance(value, dict) or OPERATION not in value:
        return ProvisionSubscriber, value
    named = value[OPERATION]
    if (model := _MODELS.get(named.lower() if isinstance(named, str) else "")) is None:
        raise InvalidRecordError([f"{OPERATION}: must be {_OPERATION_NAMES}, and is {named!r}"])
    return model, {name: inner for name, inner in value.items() if name != OPERATION}


class FileRecord(Protocol):
    """What stands in the place of an order."""

    @property
    def line(self) -> int:
        """Where it begins, from 1."""

    @property
    def size(self) -> int:
        """In bytes."""

    def order(self) -> AnyOrder:
        """Raises `InvalidRecordError`."""

    def rejected(self, reason: str) -> bytes:
        """The same, whole, with the reason beside it: to be fixed and read again."""


class Form(Protocol):
    """How the orders of a file are written."""

    suffix: str

    def records(self) -> Iterator[FileRecord]:
        """Raises `InvalidInputError` where the file is no such file."""

    def head(self) -> bytes:
        """What a file of rejected orders begins with."""
