"""Text that a terminal, a log, a label and a database take as it is."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo

from lastmile.fields.rules import broken
from lastmile.fields.stored import is_stored
from lastmile.fields.unsafe import UNSAFE_CHARACTER, escape

__all__ = ["PRINTABLE", "UNPADDED", "Text"]


def _printable(text: str, info: ValidationInfo) -> str:
    """Refuse unsafe characters; in what was stored before, escape them."""
    if is_stored(info):
        return escape(text)
    if found := UNSAFE_CHARACTER.search(text):
        raise broken(
            "must be text without control characters and bidirectional overrides "
            f"(U+{ord(found[0]):04X} is character {found.start() + 1})"
        )
    return text


PRINTABLE: Final = AfterValidator(_printable)
"""The last part of a type of text: the length is that of the text as it arrived."""

Text = Annotated[str, Field(strict=True), PRINTABLE]
"""One line of text."""


def _unpadded(text: str, info: ValidationInfo) -> str:
    if text != text.strip() and not is_stored(info):
        raise broken("must be text without blanks at its beginning and end")
    return text


UNPADDED: Final = AfterValidator(_unpadded)
"""For text that is compared with what a device sends: a table of orders cannot carry blanks around a cell."""
