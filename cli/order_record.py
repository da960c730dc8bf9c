"""One order of a file as it stands there: what JSON Lines and CSV have in common.

Fields and columns that begin with `_` are notes, such as why an order was rejected: they are not read.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from workflows.contract import ProvisionSubscriber

__all__ = ["REJECTED", "BadRecord", "Form", "Record", "is_note"]

REJECTED = "_rejected"
"""The note that says why an order stands in a rejects file."""


def is_note(name: str) -> bool:
    return name.startswith("_")


class BadRecord(Exception):
    """This is no order, for these reasons."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = list(mistakes)


class Record(Protocol):
    """What stands in the place of an order."""

    @property
    def line(self) -> int:
        """Where it begins, from 1."""

    @property
    def size(self) -> int:
        """In bytes."""

    def order(self) -> ProvisionSubscriber:
        """Raises `BadRecord`."""

    def rejected(self, reason: str) -> bytes:
        """The same, whole, with the reason beside it: to be fixed and read again."""


class Form(Protocol):
    """How the orders of a file are written."""

    suffix: str

    def records(self) -> Iterator[Record]:
        """Raises `BadInput` where the file is no such file."""

    def head(self) -> bytes:
        """What a file of rejected orders begins with."""
