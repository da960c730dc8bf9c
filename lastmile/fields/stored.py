"""How a model tells what was stored before from what arrives now.

Rules become stricter from one version to the next. A run that Temporal keeps, and a row of the database, must load
under the rules of today: text that would be refused now is escaped instead.
"""

from typing import Final

from pydantic import ValidationInfo

__all__ = ["STORED", "is_stored"]

STORED: Final = {"stored": True}
"""The context for pydantic with which a payload of Temporal or a row of the database is loaded."""


def is_stored(info: ValidationInfo) -> bool:
    """Tell whether the value was accepted before, perhaps by an older version."""
    return info.context is STORED
