"""The lifecycle of a delegation, as data: the states, and the transitions between them."""

from enum import StrEnum

from ipam.errors import IllegalTransitionError

__all__ = ["IN_SERVICE", "TRANSITIONS", "State", "check"]


class State(StrEnum):
    """Where a delegation stands. All but `REVOKED` are live: they hold the subscriber's place."""

    PENDING = "pending"
    ALLOCATED = "allocated"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKING = "revoking"
    REVOKED = "revoked"
    FAILED = "failed"


IN_SERVICE = frozenset({State.ACTIVE, State.SUSPENDED})
"""The states of a delegation that RADIUS assigns. A suspended line keeps its addresses."""

TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.ALLOCATED, State.FAILED}),
    State.ALLOCATED: frozenset({State.ACTIVE, State.REVOKING, State.FAILED}),
    State.ACTIVE: frozenset({State.SUSPENDED, State.REVOKING, State.FAILED}),
    State.SUSPENDED: frozenset({State.ACTIVE, State.REVOKING, State.FAILED}),
    State.REVOKING: frozenset({State.REVOKED, State.FAILED}),
    State.FAILED: frozenset({State.PENDING, State.REVOKING}),
    State.REVOKED: frozenset(),
}


def check(before: State, after: State) -> None:
    """Raise `IllegalTransitionError` unless the table has this transition."""
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before])) or "nothing"
        raise IllegalTransitionError(f"a delegation cannot go from {before} to {after}: {before} leads to {allowed}")
