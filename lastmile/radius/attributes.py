"""RADIUS attributes by name: the dictionary, and the checks that pyrad does not make."""

import ipaddress
from pathlib import Path
from typing import Any, Final

from pyrad.dictionary import Dictionary

from lastmile.errors import NonRetryableError

__all__ = ["DICTIONARY", "InvalidAttributeError", "add"]

DICTIONARY: Final = Dictionary(str(Path(__file__).with_name("dictionary")))
"""The attributes that Lastmile can send, for pyrad."""


class InvalidAttributeError(NonRetryableError):
    """An attribute that cannot be written into a packet; the message has its name and the reason."""


def add(packet: Any, name: str, value: str) -> None:
    """Add an attribute to a pyrad packet, with its value as in `radreply` or as `unescaped` returns it.

    Args:
        name: the name in radius/dictionary. A tagged attribute (RFC 2868) has its tag behind a colon.

    Raises:
        InvalidAttributeError: the name is unknown, or the value is not valid for the attribute.
    """
    attribute = DICTIONARY.attributes.get(name.partition(":")[0])
    if attribute is None:
        raise InvalidAttributeError(
            f"{name}: no such attribute. Correct the name, or add the attribute to radius/dictionary."
        )
    try:
        if attribute.type == "ipv6prefix":
            _check_prefix(value)
        if not value:
            raise ValueError("empty; leave the attribute out instead (RFC 2865 section 5)")
        packet.AddAttribute(name, value.encode(errors="surrogateescape") if attribute.type == "string" else value)
    except (ValueError, TypeError) as error:
        raise InvalidAttributeError(f"{name} = {value!r}: {error}") from error


def _check_prefix(value: str) -> None:
    # pyrad clears host bits, and reads an address without a length as a /128: the NAS would assign another prefix.
    if "/" not in value:
        raise ValueError("no prefix length, as in 2001:db8::/56")
    ipaddress.IPv6Network(value)
