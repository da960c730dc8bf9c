"""The types of fields of NetBox's objects: their validation in a body, and their form in a reply.

The error messages are those of Django REST framework, as NetBox sends them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lastmile.devstack.netbox.http.http_errors import HttpError, InvalidValueError
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.versions import Version

__all__ = ["Address", "Choice", "Field", "Fixed", "Flag", "Items", "Lookup", "Number", "Prefix", "Ref", "Refs", "Text"]

Object = dict[str, Any]
"""A stored object: references are ids, choices are their values."""


class Lookup(Protocol):
    """The access of a field to other objects."""

    @property
    def version(self) -> Version:
        """Return the version of NetBox."""

    def matching(self, kind: str, attributes: Mapping[str, Any]) -> list[Object]:
        """Return the objects of a kind that have all of `attributes`."""

    def nested(self, kind: str, key: int) -> Any:
        """Return the short form of the object `key` of this kind, for a reference to it."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field that a body may set. A field that is not `required` has a default."""

    required: bool = False
    null: bool = False
    default: Any = None
    hidden: bool = False
    """Whether the field is accepted in a body, but absent from replies."""

    def accept(self, value: Any, lookup: Lookup) -> Any:
        """Return the stored form of a value in a body.

        Raises:
            InvalidValueError: NetBox refuses the value.
        """
        if value is None:
            if self.null:
                return None
            raise InvalidValueError("This field may not be null.")
        return self.parse(value, lookup)

    def parse(self, value: Any, lookup: Lookup) -> Any:
        """Return the stored form of a value that is not null, as `accept` does."""
        return value

    def show(self, value: Any, lookup: Lookup) -> Any:
        """Return the form of the value in a reply."""
        return value


@dataclass(frozen=True, kw_only=True)
class Fixed(Field):
    """A field that the stand-in does not implement: it always has its default."""


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """A string."""

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
    """A truth value."""

    default: Any = False

    def parse(self, value: Any, lookup: Lookup) -> bool:
        if value in (True, "true", "True", "1"):
            return True
        if value in (False, "false", "False", "0"):
            return False
        raise InvalidValueError("Must be a valid boolean.")


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    """An integer."""

    def parse(self, value: Any, lookup: Lookup) -> int:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InvalidValueError("A valid integer is required.") from None


@dataclass(frozen=True, kw_only=True)
class Items(Field):
    """A list of values of any type."""

    default: Any = ()

    def parse(self, value: Any, lookup: Lookup) -> list[Any]:
        if not isinstance(value, list):
            raise InvalidValueError(f'Expected a list of items but got type "{type(value).__name__}".')
        return value

    def show(self, value: Any, lookup: Lookup) -> Any:
        return list(value)


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """The value of one of `labels`."""

    labels: Mapping[str, str]

    def parse(self, value: Any, lookup: Lookup) -> str:
        if isinstance(value, str) and value in self.labels:
            return value
        raise InvalidValueError(f"{value} is not a valid choice.")

    def show(self, value: Any, lookup: Lookup) -> Any:
        return None if value is None else {"value": value, "label": self.labels[value]}


@dataclass(frozen=True, kw_only=True)
class Ref(Field):
    """A reference to another object, by its id or by unique attributes."""

    to: str
    null: bool = True
    protects: bool = True
    """Whether a reference prevents the deletion of the other object; otherwise this object is deleted with it."""

    def parse(self, value: Any, lookup: Lookup) -> int:
        return resolve(self.to, value, lookup)

    def show(self, value: Any, lookup: Lookup) -> Any:
        return None if value is None else lookup.nested(self.to, value)


@dataclass(frozen=True, kw_only=True)
class Refs(Field):
    """References to several other objects."""

    to: str
    default: Any = ()

    def parse(self, value: Any, lookup: Lookup) -> list[int]:
        if not isinstance(value, list):
            raise InvalidValueError(f'Expected a list of items but got type "{type(value).__name__}".')
        return [resolve(self.to, item, lookup) for item in value]

    def show(self, value: Any, lookup: Lookup) -> Any:
        return [lookup.nested(self.to, key) for key in value]


def resolve(kind: str, value: Any, lookup: Lookup) -> int:
    """Return the id of the object to which a body refers by its id or by a dictionary of attributes.

    Raises:
        InvalidValueError: there is no such object or several, or the value is neither an id nor a dictionary.
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
    """An IP address with a prefix length."""

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
