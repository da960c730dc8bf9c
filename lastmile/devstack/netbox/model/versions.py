"""The versions of NetBox that the stand-in implements: their differences, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["V4_4", "V4_6", "VERSIONS", "Version"]


@dataclass(frozen=True, kw_only=True)
class Version:
    """A release of NetBox. The defaults are the behaviour of NetBox 4.4."""

    number: str
    django: str
    python: str
    v2_tokens: bool = False
    """Whether there are tokens `nbt_<key>.<secret>`, sent as `Bearer`, beside those of 40 characters (since 4.5)."""
    refuses_unknown_custom_fields: bool = False
    """Whether NetBox refuses unknown custom fields with 400 (since 4.5.8). Earlier versions ignore them silently."""
    refuses_malformed_prefixes: bool = False
    """Whether NetBox refuses malformed prefixes with 400. Earlier versions reply 500."""
    redirects_to_slash: bool = True
    """Whether NetBox replies 301 to a path without its last slash. Later versions reply 404."""
    obeys_address_length: bool = False
    """Whether `available-ips` uses the `prefix_length` of the body."""
    reads_back: bool = False
    """Whether the reply to a single creation is read from the database again, with its `children` and `_depth`."""
    etags: bool = False
    """Whether replies about one object have an `ETag`, and requests an `If-Match` (since 4.6)."""
    names_changed_objects: bool = False
    """Whether the change log has `object_repr`."""
    owned: frozenset[str] = frozenset()
    """The kinds of objects that have an `owner`."""
    more_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Additional fields of replies compared with 4.4, with their values, by kind of object."""

    @property
    def api(self) -> str:
        """Return the value of the header `API-Version`."""
        return self.number.rpartition(".")[0]


V4_4 = Version(number="4.4.10", django="5.2.9", python="3.11.7")

_RELATED = ("circuit", "device", "ipaddress", "prefix", "rack", "site", "virtualmachine", "vlan", "vrf", "cluster")

V4_6 = Version(
    number="4.6.8",
    django="6.0.8",
    python="3.13.5",
    v2_tokens=True,
    refuses_unknown_custom_fields=True,
    refuses_malformed_prefixes=True,
    redirects_to_slash=False,
    obeys_address_length=True,
    reads_back=True,
    etags=True,
    names_changed_objects=True,
    owned=frozenset({"tenancy.tenant", "ipam.vrf", "ipam.prefix", "ipam.ipaddress", "extras.customfield"}),
    more_fields={
        "tenancy.tenant": {f"{kind}_count": 0 for kind in _RELATED},
        "ipam.vrf": {"ipaddress_count": 0, "prefix_count": 0},
        "extras.tag": {"tagged_items": 0},
        "extras.customfield": {"validation_schema": None},
    },
)

VERSIONS = {version.api: version for version in (V4_4, V4_6)}
"""The versions by their API version."""
