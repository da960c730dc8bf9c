"""The kinds of fields that NetBox's objects have: what each accepts in a body, and how it is shown in a reply.

The words of refusal are those of Django REST framework, as NetBox sends them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lastmile.devstack.netbox.http_errors import HttpError, InvalidValueError
from lastmile.devstack.netbox.networks import Network
from lastmile.devstack.netbox.versions import Version

__all__ = ["Address", "Choice", "Field", "Fixed", "Flag", "Items", "Lookup", "Number", "Prefix", "Ref", "Refs", "Text"]

Object = dict[str, Any]
"""An object as it is stored: references as ids, choices as their values."""


class Lookup(Protocol):
    """What a field must know of the other objects."""

    @property
    def version(self) -> Version:
        """The NetBox that is played."""

    def matching(self, kind: str, attributes: Mapping[str, Any]) -> list[Object]:
        """The objects of a kind that have all of `attributes`."""

    def nested(self, kind: str, key: int) -> Any:
        """How another object shows the object `key` of this kind."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field that a body may set; one that is not `required` has a default."""

    required: bool = False
    null: bool = False
    default: Any = None
    hidden: bool = False
    """Accepted, and never shown."""

    def accept(self, value: Any, lookup: Lookup) -> Any:
        """What to store for a value of a body.

        Raises:
            Invalid: NetBox refuses it.
        """
        if value is None:
            if self.null:
                return None
            raise InvalidValueError("This field may not be null.")
        return self.parse(value, lookup)

    def parse(self, value: Any, lookup: Lookup) -> Any:
        """As `accept`, for a value that is not null."""
        return value

    def show(self, value: Any, lookup: Lookup) -> Any:
        """The value in a reply."""
        return value


@dataclass(frozen=True, kw_only=True)
class Fixed(Field):
    """A part of NetBox that this stand-in lacks: always its default, whatever a body says."""


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    default: Any = ""
    pattern: str = ""
    complaint: str = ""

    def parse(self, value: Any, lookup: Lookup) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidValueError("Not a valid string.")
        text = str(value).strip()
        if self.required and not text:
            raise InvalidValueError("This field may not be blank.")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise InvalidValueError(self.complaint)
        return text


@dataclass(frozen=True, kw_only=True)
class Flag(Field):
    default: Any = False

    def parse(self, value: Any, lookup: Lookup) -> bool:
        if value in (True, "true", "True", "1"):
            return True
        if value in (False, "false", "False", "0"):
            return False
        raise InvalidValueError("Must be a valid boolean.")


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    def parse(self, value: Any, lookup: Lookup) -> int:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InvalidValueError("A valid integer is required.") from None


@dataclass(frozen=True, kw_only=True)
class Items(Field):
    """A list of strings, or of whatever is in it."""

    default: Any = ()

    def parse(self, value: Any, lookup: Lookup) -> list[Any]:
        if not isinstance(value, list):
            raise InvalidValueError(f'Expected a list of items but got type "{type(value).__name__}".')
        return value

    def show(self, value: Any, lookup: Lookup) -> Any:
        return list(value)


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of `labels`, by its value."""

    labels: Mapping[str, str]

    def parse(self, value: Any, lookup: Lookup) -> str:
        if isinstance(value, str) and value in self.labels:
            return value
        raise InvalidValueError(f"{value} is not a valid choice.")

    def show(self, value: Any, lookup: Lookup) -> Any:
        return None if value is None else {"value": value, "label": self.labels[value]}


@dataclass(frozen=True, kw_only=True)
class Ref(Field):
    """Another object: by its id, or by attributes that only it has."""

    to: str
    null: bool = True
    protects: bool = True
    """The other object cannot be deleted while this one refers to it; else this one goes with it."""

    def parse(self, value: Any, lookup: Lookup) -> int:
        return resolve(self.to, value, lookup)

    def show(self, value: Any, lookup: Lookup) -> Any:
        return None if value is None else lookup.nested(self.to, value)


@dataclass(frozen=True, kw_only=True)
class Refs(Field):
    """Several other objects."""

    to: str
    default: Any = ()

    def parse(self, value: Any, lookup: Lookup) -> list[int]:
        if not isinstance(value, list):
            raise InvalidValueError(f'Expected a list of items but got type "{type(value).__name__}".')
        return [resolve(self.to, item, lookup) for item in value]

    def show(self, value: Any, lookup: Lookup) -> Any:
        return [lookup.nested(self.to, key) for key in value]


def resolve(kind: str, value: Any, lookup: Lookup) -> int:
    """The id of the object of this kind that a body refers to by its id or by a dictionary of attributes.

    Raises:
        Invalid: there is none, or several, or it is neither an id nor a dictionary.
    """
    if isinstance(value, dict):
        found = lookup.matching(kind, value)
        if len(found) > 1:
            raise InvalidValueError(f"Multiple objects match the provided attributes: {value}")
        if not found:
            raise InvalidValueError(f"Related object not found using the provided attributes: {value}")
    else:
        try:
            key = int(value)
        except (TypeError, ValueError):
            raise InvalidValueError(
                "Related objects must be referenced by numeric ID or by dictionary of attributes. "
                f"Received an unrecognized value: {value}"
            ) from None
        found = lookup.matching(kind, {"id": key})
        if not found:
            raise InvalidValueError(f"Related object not found using the provided numeric ID: {key}")
    return int(found[0]["id"])


@dataclass(frozen=True, kw_only=True)
class Prefix(Field):
    """An IPv4 or IPv6 prefix."""

    def parse(self, value: Any, lookup: Lookup) -> str:
        network = _parsed(value, "prefix", lookup.version)
        if Network.parse(str(value).partition("/")[0]).first != network.first:
            raise InvalidValueError(f"{value} is not a valid prefix. Did you mean {network}?")
        return str(network)


@dataclass(frozen=True, kw_only=True)
class Address(Field):
    """An IP address with the length of its prefix."""

    def parse(self, value: Any, lookup: Lookup) -> str:
        network = _parsed(value, "address", lookup.version)
        host = Network.parse(str(value).partition("/")[0])
        return f"{host.address(host.first)}/{network.length}"


def _parsed(value: Any, what: str, version: Version) -> Network:
    try:
        return Network.parse(str(value))
    except ValueError:
        if version.refuses_malformed_prefixes:
            raise InvalidValueError(f"Invalid IP {what} format: {value}") from None
        versions = {"netbox_version": version.number, "python_version": version.python}
        raise HttpError(500, {"error": "'data'", "exception": "KeyError", **versions}) from None
