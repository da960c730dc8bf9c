"""The NetBox versions that the stand-in plays: what differs between them, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["V4_4", "V4_6", "VERSIONS", "Version"]


@dataclass(frozen=True, kw_only=True)
class Version:
    """One NetBox release. The defaults are what NetBox 4.4 does."""

    number: str
    django: str
    python: str
    v2_tokens: bool = False
    """Tokens `nbt_<key>.<secret>`, sent as `Bearer`, beside those of 40 characters (since 4.5)."""
    refuses_unknown_custom_fields: bool = False
    """With 400; earlier versions drop them without a word (since 4.5.8)."""
    refuses_malformed_prefixes: bool = False
    """With 400; earlier versions answer 500."""
    redirects_to_slash: bool = True
    """A path without its last slash is answered with 301; later versions answer 404."""
    obeys_address_length: bool = False
    """`available-ips` uses the `prefix_length` of the body."""
    reads_back: bool = False
    """The reply to a plain creation is read from the database again, with its `children` and `_depth`."""
    etags: bool = False
    """`ETag` in replies about one object, and `If-Match` in requests (since 4.6)."""
    names_changed_objects: bool = False
    """`object_repr` in the change log."""
    owned: frozenset[str] = frozenset()
    """Kinds of objects that have an `owner`."""
    more_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further fields that replies have beyond those of 4.4, by kind of object, and their values."""

    @property
    def api(self) -> str:
        """As in the header `API-Version`."""
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
"""By the API version."""
