"""RADIUS attributes by name: the dictionary, and the checks that pyrad leaves out."""

import ipaddress
from pathlib import Path
from typing import Any, Final

from pyrad.dictionary import Dictionary

from lastmile.errors import NonRetryableError

__all__ = ["DICTIONARY", "InvalidAttributeError", "add"]

DICTIONARY: Final = Dictionary(str(Path(__file__).with_name("dictionary")))
"""The attributes Lastmile knows, for pyrad."""


class InvalidAttributeError(NonRetryableError):
    """An attribute that cannot go into a packet as it stands; the message names it and says why."""


def add(packet: Any, name: str, value: str) -> None:
    """Add an attribute to a pyrad packet, with its value as in radreply, or as `lastmile.radius.escaping` returns it.

    Raises:
        InvalidAttribute: the name is unknown, or the value is not one of that attribute.
    """
    attribute = DICTIONARY.attributes.get(name)
    if attribute is None:
        raise InvalidAttributeError(f"{name}: no such attribute. Correct the name, or add it to radius/dictionary.")
    try:
        if attribute.type == "ipv6prefix":
            _check_prefix(value)
        if not value:
            raise ValueError("empty; leave the attribute out instead (RFC 2865 section 5)")
        packet.AddAttribute(name, value.encode(errors="surrogateescape") if attribute.type == "string" else value)
    except (ValueError, TypeError) as error:
        raise InvalidAttributeError(f"{name} = {value!r}: {error}") from error


def _check_prefix(value: str) -> None:
    # pyrad would clear host bits and make a bare address a /128, and so hand out another prefix than was meant.
    if "/" not in value:
        raise ValueError("no prefix length, as in 2001:db8::/56")
    ipaddress.IPv6Network(value)
