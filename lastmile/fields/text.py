"""Types for text that is safe in a terminal, a log, a label and a database."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo

from lastmile.fields.rules import rule_error
from lastmile.fields.stored import is_stored
from lastmile.fields.unsafe import UNSAFE_CHARACTER, escape

__all__ = ["GENERATED_ONLY", "PRINTABLE", "UNPADDED", "USERNAME", "Text", "looks_generated"]


def _printable(text: str, info: ValidationInfo) -> str:
    """Refuse unsafe characters; escape them in stored text."""
    if is_stored(info):
        return escape(text)
    if found := UNSAFE_CHARACTER.search(text):
        raise rule_error(
            "must be text without control characters and bidirectional overrides "
            f"(U+{ord(found[0]):04X} is character {found.start() + 1})"
        )
    return text


PRINTABLE: Final = AfterValidator(_printable)
"""The validator against unsafe characters. It must come last in a type, so that a length rule counts the input."""

Text = Annotated[str, Field(strict=True), PRINTABLE]
"""One line of text."""


def _unpadded(text: str, info: ValidationInfo) -> str:
    if text != text.strip() and not is_stored(info):
        raise rule_error("must be text without blanks at the beginning or the end")
    return text


UNPADDED: Final = AfterValidator(_unpadded)
"""The validator for text that is compared with a device's value. A table of orders loses blanks around a cell."""


GENERATED_ONLY: Final = "must not end with .lastmile, since Lastmile generates those user names"


def looks_generated(username: str) -> bool:
    """Return whether the user name ends like those that Lastmile generates."""
    return username.lower().endswith(".lastmile")


def _username(text: str) -> str:
    if looks_generated(text):
        raise rule_error(GENERATED_ONLY)
    return text


USERNAME: Final = AfterValidator(_username)
"""The validator for a user name that an order gives: no name of another line can be imitated."""
