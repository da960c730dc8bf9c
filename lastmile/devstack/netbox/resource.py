"""What there is to say about a kind of objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lastmile.devstack.netbox.fields import Field, Object

__all__ = ["Resource"]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of object."""

    path: str
    """Below `/api/`."""
    type: str
    """As NetBox names it in permissions and custom fields: app and model."""
    name: str
    """As NetBox names it in "No … matches the given query."."""
    fields: Mapping[str, Field]
    brief: tuple[str, ...]
    """What of it is shown with `brief=1`, and where another object refers to it."""
    display: Callable[[Object], str]
    order: Callable[[Object], Any]
    unique: Mapping[str, str] = field(default_factory=dict)
    """By field: what NetBox says of a second object with the same value."""
    custom_fields: bool = False
    web: str = ""
    """Below the root, where a browser finds it; empty: as `path`."""
