"""The description of a kind of objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lastmile.devstack.netbox.model.fields import Field, Object

__all__ = ["Resource"]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of objects."""

    path: str
    """The path below `/api/`."""
    type: str
    """NetBox's name in permissions and custom fields: app and model."""
    name: str
    """NetBox's name in the message "No … matches the given query."."""
    fields: Mapping[str, Field]
    brief: tuple[str, ...]
    """The fields of the short form, with `brief=1` and in references."""
    display: Callable[[Object], str]
    order: Callable[[Object], Any]
    unique: Mapping[str, str] = field(default_factory=dict)
    """NetBox's message for a second object with the same value, by field."""
    custom_fields: bool = False
    web: str = ""
    """The path of the web page below the root; empty: the same as `path`."""
