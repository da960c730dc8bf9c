"""What allocation promises, in a few lines of Python, for a real database to be held against."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from ipam.allocation import Allocation
from ipam.delegations import Delegation, StateChangedError
from ipam.errors import (
    AddressTakenError,
    AllocationSpentError,
    DelegationBusyError,
    DelegationMismatchError,
    IllegalTransitionError,
    NotRevokedError,
    PoolExhaustedError,
)
from ipam.lifecycle import TRANSITIONS, State
from ipam.pools import Pool
from lastmile.contract.addressing import Need, Purpose

__all__ = ["POOLS", "Action", "Model", "Move", "Release", "Request"]

Prefix = IPv4Network | IPv6Network

POOLS = (
    Pool(name="own", prefix="2001:db8:1::/56", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme"),
    Pool(name="all", prefix="2001:db8:f::/54", purpose=Purpose.IPV6_PD, delegated_length=56),
    Pool(name="v4", prefix="198.51.100.0/29", purpose=Purpose.IPV4, delegated_length=32),
)


@dataclass(frozen=True)
class Request:
    """One call of `allocate`."""

    tenant: str
    ref: str
    order: str
    need: Need

    @property
    def key(self) -> tuple[str, str, Purpose, str]:
        return (*self.holder, self.order)

    @property
    def holder(self) -> tuple[str, str, Purpose]:
        return (self.tenant, self.ref, self.need.purpose)


@dataclass(frozen=True)
class Move:
    """One call of `transition`, by a client that has read the delegation as `seen`."""

    tenant: str
    seen: Delegation
    state: State


@dataclass(frozen=True)
class Release:
    """One call of `release`, by a client that has read the delegation as `seen`."""

    tenant: str
    seen: Delegation


Action = Request | Move | Release


@dataclass
class Model:
    """The expected state: holders, prefixes in quarantine, and last holders."""

    held: dict[int, tuple[Request, Delegation]] = field(default_factory=dict)
    """The unreleased delegations by id."""
    spent: set[tuple[str, str, Purpose, str]] = field(default_factory=set)
    """Keys whose delegation was given back."""
    resting: set[Prefix] = field(default_factory=set)
    last: dict[Prefix, tuple[str, str, Purpose]] = field(default_factory=dict)

    def explains(self, action: Action, answer: object, *, rival_died: bool = False) -> bool:
        """Whether this is how the action may be answered now; if so, it has been.

        A rival that died may have held, for that moment, the prefix that the subscriber had before.
        """
        if isinstance(action, Request):
            return self._explains_request(action, answer, rival_died)
        if isinstance(action, Move):
            return self._explains_move(action, answer)
        return self._explains_release(action, answer)

    def _explains_request(self, request: Request, answer: object, rival_died: bool) -> bool:
        if not self._may_be(request, answer, rival_died):
            return False
        if isinstance(answer, Allocation) and answer.created:
            delegation = answer.delegation
            self.held[delegation.id] = (request, delegation)
            self.last[delegation.prefix] = request.holder
            self.resting.discard(delegation.prefix)
        return True

    def _explains_move(self, move: Move, answer: object) -> bool:
        if move.state not in TRANSITIONS[move.seen.state]:
            return type(answer) is IllegalTransitionError
        if self._state(move.seen) is not move.seen.state:
            return type(answer) is StateChangedError
        if not isinstance(answer, Delegation) or (answer.id, answer.state) != (move.seen.id, move.state):
            return False
        request, now = self.held[answer.id]
        self.held[answer.id] = (request, replace(now, state=answer.state, state_since=answer.state_since))
        return True

    def _explains_release(self, release: Release, answer: object) -> bool:
        if self._state(release.seen) is not State.REVOKED:
            return type(answer) is NotRevokedError
        if release.seen.id in self.held:
            request, delegation = self.held.pop(release.seen.id)
            self.spent.add(request.key)
            self.resting.add(delegation.prefix)
        return answer is None

    def _state(self, seen: Delegation) -> State:
        """Return the present delegation; a released one stays revoked."""
        return self.held[seen.id][1].state if seen.id in self.held else State.REVOKED

    def _may_be(self, request: Request, answer: object, rival_died: bool) -> bool:
        found = self._found(request)
        if isinstance(found, Delegation):
            refusal = self._refusal(request, found)
            if refusal is not None:
                return type(answer) is refusal
            return isinstance(answer, Allocation) and (answer.delegation, answer.created) == (found, False)
        if found is AllocationSpentError:
            return type(answer) is AllocationSpentError
        free = self._free(request)
        if not free:
            return type(answer) is (PoolExhaustedError if request.need.address is None else AddressTakenError)
        had = set() if rival_died else {prefix for prefix in free if self.last.get(prefix) == request.holder}
        return isinstance(answer, Allocation) and answer.created and answer.delegation.prefix in (had or free)

    def _found(self, request: Request) -> Delegation | type[AllocationSpentError] | None:
        """Return the delegation of the key, or else of the subscriber."""
        for other, delegation in self.held.values():
            if other.key == request.key:
                return AllocationSpentError if delegation.state is State.REVOKED else delegation
        if request.key in self.spent:
            return AllocationSpentError
        for other, delegation in self.held.values():
            live = delegation.state is not State.REVOKED and delegation.replaced_by_order is None
            if other.holder == request.holder and live:
                return delegation
        return None

    def _refusal(self, request: Request, found: Delegation) -> type[Exception] | None:
        if found.state in (State.REVOKING, State.FAILED):
            return DelegationBusyError
        same_key = self.held[found.id][0].key == request.key
        address = request.need.address
        if not same_key and address is not None and found.prefix.network_address != address:
            return DelegationMismatchError
        return None

    def _free(self, request: Request) -> set[Prefix]:
        """Return the prefixes that this subscriber may get: free ones, and its own ones in quarantine."""
        taken = {delegation.prefix for _, delegation in self.held.values()}
        return {
            prefix
            for pool in POOLS
            if pool.purpose is request.need.purpose and pool.tenant in (None, request.tenant)
            for prefix in _prefixes(pool)
            if prefix not in taken
            and (prefix not in self.resting or self.last[prefix] == request.holder)
            and request.need.address in (None, prefix.network_address)
        }


def _prefixes(pool: Pool) -> list[Prefix]:
    """Return every prefix of the pool."""
    every: list[Prefix] = [*pool.prefix.subnets(new_prefix=pool.delegated_length)]
    return [every[n] for n in pool.slots]
