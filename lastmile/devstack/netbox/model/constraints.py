"""The constraints of permissions, which select objects of a kind.

The stand-in has a part of Django's look-ups: equality, `__in`, `__net_contained` and `__net_contained_or_equal` of a
prefix, and the same for a related object (`vrf__name`).
"""

from collections.abc import Mapping
from typing import Any

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.model.fields import Object, Ref
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import BY_TYPE

__all__ = ["reaches"]


def reaches(constraints: Any, resource: Resource, stored: Object, store: Store) -> bool:
    """Return whether the constraints include the object.

    A dictionary requires all its look-ups, a list one of its dictionaries. None includes every object.
    """
    if constraints is None:
        return True
    alternatives = constraints if isinstance(constraints, list) else [constraints]
    return any(_passes(one, resource, stored, store) for one in alternatives)


def _passes(lookups: Mapping[str, Any], resource: Resource, stored: Object, store: Store) -> bool:
    return all(_matches(path.split("__"), expected, resource, stored, store) for path, expected in lookups.items())


def _matches(path: list[str], expected: Any, resource: Resource, stored: Object, store: Store) -> bool:
    name, *rest = path
    field, value = resource.fields.get(name), stored.get(name)
    if isinstance(field, Ref) and rest and rest[0] != "in":
        other = store.get(field.to, value) if value else None
        return other is not None and _matches(rest, expected, BY_TYPE[field.to], other, store)
    match rest:
        case []:
            return bool(value == expected)
        case ["in"]:
            return value in expected
        case ["net_contained" | "net_contained_or_equal" as how]:
            inside, around = Network.parse(str(value)), Network.parse(expected)
            return around.contains(inside) and (how == "net_contained_or_equal" or inside != around)
    raise ValueError(f"the stand-in does not support the look-up {'__'.join(path)}")
