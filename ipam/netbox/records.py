"""The records of delegations and blocks in NetBox: custom fields, tag and status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from typing import Any, Self

from ipam.delegations import Delegation
from ipam.lifecycle import State
from ipam.prefix import Prefix

__all__ = ["KEY", "LINK", "OBJECT_TYPE", "SIZE", "STATE", "STATUS", "SUBSCRIBER", "TAG", "USED"]
__all__ += ["BlockStamp", "NetBoxRecord", "Stamp"]

OBJECT_TYPE = "ipam.prefix"
TAG = "lastmile"

KEY, SUBSCRIBER, STATE, LINK = "lastmile_key", "lastmile_subscriber", "lastmile_state", "lastmile_link"
"""The custom fields."""

USED, SIZE = "lastmile_used", "lastmile_size"
"""Those of a block: how many of its prefixes are not free, and how many it has."""

# A suspended subscriber keeps the prefix, and a revoked one's rests in quarantine: it must not look free.
STATUS = {
    State.PENDING: "reserved",
    State.ALLOCATED: "reserved",
    State.ACTIVE: "active",
    State.SUSPENDED: "active",
    State.REVOKING: "deprecated",
    State.REVOKED: "deprecated",
    State.FAILED: "deprecated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What Lastmile writes on the record of a delegation."""

    key: str
    """The allocation key."""
    subscriber_ref: str
    state: State
    tenant: str | None = None
    """Lastmile's id of the tenant, which is the slug of NetBox's."""
    link: str | None = None
    """The URL of a page about the subscriber. None leaves the present one."""
    description: str | None = None
    """The description. None leaves the present one."""

    @classmethod
    def of(cls, delegation: Delegation, state: State | None = None) -> Self:
        """Return what the record of the delegation says, in its state or in another one."""
        state = state or delegation.state
        held = "in quarantine, was" if state is State.REVOKED else "is"
        return cls(
            key=delegation.key,
            subscriber_ref=delegation.subscriber_ref,
            state=state,
            tenant=delegation.tenant,
            description=f"{held} {delegation.subscriber_ref}'s (Lastmile)",
        )

    def body(self, *, new: bool) -> dict[str, Any]:
        """Return the body of a creation or of a change. A change leaves the tags alone: users add their own."""
        fields = {KEY: self.key, SUBSCRIBER: self.subscriber_ref, STATE: self.state.value}
        body: dict[str, Any] = {
            "status": STATUS[self.state],
            "tenant": {"slug": self.tenant} if self.tenant else None,
            "custom_fields": fields if self.link is None else fields | {LINK: self.link},
        }
        if self.description is not None:
            body["description"] = self.description
        return body | {"tags": [{"slug": TAG}]} if new else body


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStamp:
    """What Lastmile writes on the record of a block."""

    key: str
    tenant: str | None
    """None: of a pool that serves every tenant."""
    used: int
    size: int
    description: str
    """The description."""

    def body(self, *, new: bool) -> dict[str, Any]:
        """Return the body of a creation or of a change, as `Stamp.body`."""
        body: dict[str, Any] = {
            "status": "container",
            "tenant": {"slug": self.tenant} if self.tenant else None,
            "custom_fields": {KEY: self.key, USED: self.used, SIZE: self.size},
            "description": self.description,
        }
        return body | {"tags": [{"slug": TAG}]} if new else body


@dataclass(frozen=True, slots=True, kw_only=True)
class NetBoxRecord:
    """A prefix as NetBox has it. A foreign one has neither key nor subscriber nor state."""

    id: int
    prefix: Prefix
    vrf_id: int | None
    """None: the global table."""
    status: str
    key: str | None
    subscriber_ref: str | None
    state: str | None
    link: str | None
    tenant: str | None
    """The slug."""
    description: str
    tags: tuple[str, ...]
    """Slugs."""
    used: int | None
    """Of a block, as the size."""
    size: int | None
    last_updated: datetime
    fields: Mapping[str, Any] = field(compare=False, repr=False)
    """All custom fields, also those that are not Lastmile's."""

    def faults(self, stamp: Stamp | BlockStamp) -> list[str]:
        """Return in what the record differs from the stamp: `status active => reserved`, present and expected.

        The key and the description are not compared: users of NetBox write in the description.
        """
        if isinstance(stamp, BlockStamp):
            said: list[tuple[str, object, object]] = [
                ("status", self.status, "container"),
                ("used", self.used, stamp.used),
                ("size", self.size, stamp.size),
            ]
        else:
            said = [
                ("subscriber", self.subscriber_ref, stamp.subscriber_ref),
                ("state", self.state, stamp.state.value),
                ("status", self.status, STATUS[stamp.state]),
            ]
            if stamp.link is not None:
                said.append(("link", self.link, stamp.link))
        said.append(("tenant", self.tenant, stamp.tenant))
        said.append(("tag", TAG if TAG in self.tags else None, TAG))
        return [f"{name} {_shown(there)} => {_shown(true)}" for name, there, true in said if there != true]

    @classmethod
    def read(cls, shown: Mapping[str, Any]) -> Self:
        """Read NetBox's JSON. Raises `KeyError`, `TypeError` or `ValueError` where it is not a prefix."""
        fields = shown["custom_fields"]
        return cls(
            id=shown["id"],
            prefix=ip_network(shown["prefix"]),
            vrf_id=shown["vrf"] and shown["vrf"]["id"],
            status=shown["status"]["value"],
            key=fields.get(KEY) or None,
            subscriber_ref=fields.get(SUBSCRIBER) or None,
            state=fields.get(STATE) or None,
            link=fields.get(LINK) or None,
            tenant=shown["tenant"] and shown["tenant"]["slug"],
            description=shown["description"],
            tags=tuple(tag["slug"] for tag in shown["tags"]),
            used=fields.get(USED),
            size=fields.get(SIZE),
            last_updated=datetime.fromisoformat(shown["last_updated"]),
            fields=fields,
        )


def _shown(value: object) -> object:
    return "none" if value is None else value
