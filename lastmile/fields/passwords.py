"""The password of a RADIUS account, as an order gives it."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr, WithJsonSchema

from lastmile.fields.rules import rule_error
from lastmile.fields.unsafe import UNSAFE_CHARACTER

__all__ = ["Password"]

_LONGEST = 128
"""The longest User-Password (RFC 2865 section 5.2)."""
_QUOTES = "'\"`"


def _password(given: SecretStr) -> SecretStr:
    text = given.get_secret_value()
    if not 1 <= len(text.encode(errors="surrogateescape")) <= _LONGEST:
        raise rule_error(f"must have 1 to {_LONGEST} bytes")
    if UNSAFE_CHARACTER.search(text) or text != text.strip():
        raise rule_error("must be text without control characters, and without blanks at the beginning or the end")
    if text[0] in _QUOTES and text[0] == text[-1]:
        raise rule_error("must not be within quotation marks, since FreeRADIUS would remove or expand them")
    return given


_SCHEMA = {"type": "string", "format": "password", "writeOnly": True, "minLength": 1, "maxLength": _LONGEST}

Password = Annotated[SecretStr, AfterValidator(_password), WithJsonSchema(_SCHEMA)]
"""A password. No message shows its value."""
