"""The distinction between stored values and new input in validators.

A new version may have stricter rules. A run in Temporal and a row of the database must still load: a validator escapes
stored text that it would refuse in new input.
"""

from typing import Final

from pydantic import ValidationInfo

__all__ = ["STORED", "is_stored"]

STORED: Final = {"stored": True}
"""The pydantic context for payloads from Temporal and rows from the database."""


def is_stored(info: ValidationInfo) -> bool:
    """Return whether the value is a stored one, which an older version may have accepted."""
    return info.context is STORED
