"""The bodies and answers of the IPv6 lifecycle, with the field names of its first clients (camelCase)."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ipam.modes import NetBoxMode
from ipam.pools import PoolUse
from lastmile.contract import OrderResult
from lastmile.contract.addressing import VrfName
from lastmile.contract.orders import Reason
from lastmile.contract.results import StepOutcome
from lastmile.contract.suspension import SuspensionMode
from lastmile.services.ipv6_lifecycle import DelegatedPrefix, PrefixStatistics

__all__ = [
    "Activate",
    "Allocate",
    "LifecycleChange",
    "PrefixStatus",
    "Resume",
    "Revoke",
    "Statistics",
    "Suspend",
]


class _Camel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )


class Allocate(_Camel):
    """What to allocate."""

    prefix_size: int = Field(default=56, ge=48, le=64)
    """The length of the prefix."""
    netbox_pool_id: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """The id in NetBox of the pool's prefix. Without it any pool with prefixes of this length."""
    vrf: VrfName | None = None
    """The VRF of the pool. Without it that of the named pool, else the default VRF."""


class Activate(_Camel):
    """How to activate."""

    send_coa: Literal[True] = True
    """Lastmile always tells the live sessions: otherwise they would keep another prefix than RADIUS assigns."""


class Suspend(_Camel):
    """How to suspend."""

    reason: Reason = "requested through /network"
    mode: SuspensionMode = SuspensionMode.BLOCK
    send_coa: Literal[True] = True
    """Lastmile always tells the live sessions, or ends those that cannot be told."""
    send_disconnect: Literal[True] = True


class Resume(_Camel):
    """How to resume."""

    send_coa: Literal[True] = True
    send_disconnect: Literal[True] = True


class Revoke(_Camel):
    """How to revoke."""

    send_disconnect: Literal[True] = True
    """Lastmile always ends the sessions that use the prefix: otherwise two subscribers could use it."""
    release_to_netbox: Literal[True] = True
    """Lastmile always puts the prefix into quarantine: otherwise no subscriber could get the prefix again."""


class Told(StrEnum):
    """What became of the requests to the NAS of the live sessions."""

    OK = "ok"
    """Each session was told or ended, or there was none."""
    PROBLEM = "problem"
    """A NAS refused or did not answer: see `warnings`."""
    NONE = "none"
    """Nothing had to be told."""


class Event(_Camel):
    """A transition."""

    at: datetime
    from_state: str
    to_state: str
    order_id: str
    reason: str


class PrefixStatus(_Camel):
    """The delegated prefix of a subscriber: the live one, or the last one that was revoked."""

    tenant: str
    subscriber_id: str
    delegation_id: int
    state: str
    prefix: str | None
    pool: str
    vrf: str
    since: datetime
    """The time of the last transition."""
    created_by_order: str
    released_at: datetime | None
    """When the prefix went into quarantine."""
    events: list[Event]

    @classmethod
    def of(cls, found: DelegatedPrefix) -> "PrefixStatus":
        held = found.delegation
        events = [
            Event(
                at=event.at,
                from_state=event.from_state.upper(),
                to_state=event.to_state.upper(),
                order_id=event.order_id,
                reason=event.reason,
            )
            for event in found.events
        ]
        return cls(
            tenant=held.tenant,
            subscriber_id=held.subscriber_ref,
            delegation_id=held.id,
            state=held.state.upper(),
            prefix=held.prefix,
            pool=held.pool,
            vrf=held.vrf,
            since=held.state_since,
            created_by_order=held.created_by_order,
            released_at=held.released_at,
            events=events,
        )


class LifecycleChange(_Camel):
    """What became of a change."""

    tenant: str
    subscriber_id: str
    order_id: str | None
    """The order that made the change. null: the prefix was in this state already."""
    order_status: str
    """How the order ended. `waiting` or `running`: it goes on, and `Location` shows its end."""
    state: str | None
    """The state of the prefix now. null: the subscriber holds no delegated prefix."""
    prefix: str | None
    coa_result: Told = Told.NONE
    disconnect_result: Told = Told.NONE
    warnings: list[str] = []


_TOLD: Mapping[StepOutcome | None, Told] = {StepOutcome.DONE: Told.OK, StepOutcome.WARNED: Told.PROBLEM}


def told_by(result: OrderResult | None, steps: tuple[str, ...]) -> Told:
    """Return what these steps of the order have told the sessions."""
    outcomes = {_TOLD.get(step.outcome, Told.NONE) for step in (result.steps if result else ()) if step.step in steps}
    return next((told for told in (Told.PROBLEM, Told.OK) if told in outcomes), Told.NONE)


class PoolStatistics(_Camel):
    """How full a pool is, in prefixes."""

    name: str
    prefix: str
    prefix_size: int
    capacity: str
    """As text: an IPv6 pool can have more prefixes than a number in JSON can say."""
    taken: str
    quarantined: str
    utilization: float
    """Taken, from 0 to 1."""
    netbox_pool_id: int | None


class Utilization(_Camel):
    """All pools of delegated prefixes together, in prefixes."""

    capacity: str
    taken: str
    quarantined: str
    utilization: float


class NetBoxIntegration(_Camel):
    """The pools that NetBox has."""

    enabled: bool
    pools: int


class Statistics(_Camel):
    """The delegated prefixes of the tenant, or of all tenants."""

    state_distribution: dict[str, int]
    utilization_stats: Utilization
    netbox_integration: NetBoxIntegration
    pool_utilization: list[PoolStatistics]

    @classmethod
    def of(cls, found: PrefixStatistics) -> "Statistics":
        in_netbox = sum(isinstance(use.pool.netbox, NetBoxMode) for use in found.pools)
        capacity, taken = (sum(getattr(use, name) for use in found.pools) for name in ("capacity", "taken"))
        return cls(
            state_distribution={state.upper(): number for state, number in found.states.items()},
            utilization_stats=Utilization(
                capacity=str(capacity),
                taken=str(taken),
                quarantined=str(sum(use.quarantined for use in found.pools)),
                utilization=_share(taken, capacity),
            ),
            netbox_integration=NetBoxIntegration(enabled=in_netbox > 0, pools=in_netbox),
            pool_utilization=[_pool(use) for use in found.pools],
        )


def _pool(use: PoolUse) -> PoolStatistics:
    netbox = use.pool.netbox
    return PoolStatistics(
        name=use.pool.name,
        prefix=str(use.pool.prefix),
        prefix_size=use.pool.delegated_length,
        capacity=str(use.capacity),
        taken=str(use.taken),
        quarantined=str(use.quarantined),
        utilization=_share(use.taken, use.capacity),
        netbox_pool_id=netbox.prefix_id if isinstance(netbox, NetBoxMode) else None,
    )


def _share(taken: int, capacity: int) -> float:
    return taken / capacity if capacity else 0.0
