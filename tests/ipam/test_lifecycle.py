"""The lifecycle: every pair of states, races, events; and how a prefix goes back to its pool."""

import asyncio
from datetime import timedelta
from itertools import pairwise, product

import pytest

from ipam.delegations import Delegation, StateChangedError
from ipam.errors import IllegalTransitionError, NotRevokedError, PoolExhaustedError
from ipam.lifecycle import TRANSITIONS, State
from tests.support.allocation_env import AllocationEnv

# The design's table, written down a second time on purpose.
ALLOWED = {
    ("pending", "allocated"), ("pending", "failed"),
    ("allocated", "active"), ("allocated", "revoking"), ("allocated", "failed"),
    ("active", "suspended"), ("active", "revoking"), ("active", "failed"),
    ("suspended", "active"), ("suspended", "revoking"), ("suspended", "failed"),
    ("revoking", "revoked"), ("revoking", "failed"),
    ("failed", "pending"), ("failed", "revoking"),
}  # fmt: skip


async def delegation_in(env: AllocationEnv, state: State) -> Delegation:
    """A delegation in this state, as its row says; which way it came there does not matter here."""
    await env.pool("2001:db8:1::/48")
    await env.allocate("S-1")
    await env.owner.execute("UPDATE delegations SET state = $1", state)
    (delegation,) = await env.held_by("S-1")
    return delegation


def test_every_state_is_in_the_transition_table() -> None:
    assert set(TRANSITIONS) == set(State)


async def test_transition_of_every_pair_of_states_follows_the_table(env: AllocationEnv) -> None:
    delegation = await delegation_in(env, State.ALLOCATED)
    for before, after in product(State, State):
        await env.owner.execute("UPDATE delegations SET state = $1", before)
        (delegation,) = await env.held_by("S-1")
        if (before, after) in ALLOWED:
            assert (await env.move(delegation, after)).state is after
        else:
            with pytest.raises(IllegalTransitionError, match=f"cannot go from {before} to {after}: {before} leads to"):
                await env.move(delegation, after)
        assert await env.owner.fetchval("SELECT state FROM delegations") == (
            after if (before, after) in ALLOWED else before
        )


async def test_concurrent_transitions_succeed_once(env: AllocationEnv) -> None:
    delegation = await delegation_in(env, State.ACTIVE)
    for _ in range(10):
        await env.owner.execute("UPDATE delegations SET state = 'active'")
        await env.owner.execute("DELETE FROM delegation_events")
        answers = await asyncio.gather(
            env.move(delegation, State.SUSPENDED, order="o1"),
            env.move(delegation, State.REVOKING, order="o2"),
            return_exceptions=True,
        )
        (winner,) = [answer for answer in answers if isinstance(answer, Delegation)]
        (loser,) = [answer for answer in answers if not isinstance(answer, Delegation)]
        assert isinstance(loser, StateChangedError)
        assert "2001:db8:1::/56 is no longer active" in str(loser)
        assert await env.owner.fetchval("SELECT state FROM delegations") == winner.state
        assert await env.owner.fetch("SELECT to_state FROM delegation_events") == [(winner.state,)]


async def test_every_transition_records_an_event(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    way = (State.ACTIVE, State.SUSPENDED, State.ACTIVE, State.FAILED, State.REVOKING, State.REVOKED)
    delegation = (await env.allocate("S-1")).delegation
    moved = await env.move(delegation, *way, order="o2")
    await env.release(moved)
    events = await env.owner.fetch("SELECT * FROM delegation_events ORDER BY id")
    assert [(event["from_state"], event["to_state"]) for event in events] == list(
        pairwise((State.PENDING, State.ALLOCATED, *way))
    )
    assert [event["order_id"] for event in events] == ["o1"] + ["o2"] * len(way)
    assert {event["subscriber_ref"] for event in events} == {"S-1"}
    assert {event["delegation_id"] for event in events} == {delegation.id}
    assert {str(event["prefix"]) for event in events} == {"2001:db8:1::/56"}


async def test_disconnect_confirmation_is_kept(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    revoked = await env.revoke((await env.allocate("S-1")).delegation, confirmed=False)
    assert revoked.disconnect_confirmed is False
    assert (await env.held_by("S-1"))[0] == revoked


async def test_transition_returns_the_stored_delegation(env: AllocationEnv) -> None:
    delegation = await delegation_in(env, State.FAILED)
    await env.owner.execute("UPDATE delegations SET disconnect_confirmed = false")
    assert await env.move(delegation, State.REVOKING) == (await env.held_by("S-1"))[0]


# Back to the pool


@pytest.mark.parametrize("state", [state for state in State if state is not State.REVOKED])
async def test_release_of_an_unrevoked_delegation_is_refused(env: AllocationEnv, state: State) -> None:
    delegation = await delegation_in(env, state)
    with pytest.raises(NotRevokedError, match=f"2001:db8:1::/56 is {state}: revoke it"):
        await env.release(delegation)
    assert await env.owner.fetchval("SELECT count(delegation_id) FROM slots") == 1


async def test_released_prefix_is_quarantined(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    await env.revoke_and_release((await env.allocate("S-1")).delegation)
    with pytest.raises(PoolExhaustedError, match="wait until a released prefix leaves quarantine"):
        await env.allocate("S-2")
    await env.end_quarantines()
    assert str((await env.allocate("S-2")).delegation.prefix) == "2001:db8:1::/56"


@pytest.mark.parametrize(("confirmed", "rest"), [(True, timedelta(hours=24)), (False, timedelta(days=7))])
async def test_quarantine_depends_on_the_confirmed_disconnect(
    env: AllocationEnv, confirmed: bool, rest: timedelta
) -> None:
    await env.pool("2001:db8:1::/48")
    revoked = await env.revoke((await env.allocate("S-1")).delegation, confirmed=confirmed)
    await env.release(revoked)
    free = await env.owner.fetchval(
        "SELECT free_at - released_at FROM slots JOIN delegations USING (pool_id, slot) WHERE last_holder IS NOT NULL"
    )
    assert free == rest


async def test_second_release_does_not_restart_the_quarantine(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    revoked = await env.revoke((await env.allocate("S-1")).delegation)
    await env.release(revoked)
    first = await env.owner.fetch("SELECT * FROM slots WHERE last_holder IS NOT NULL")
    await env.release(revoked)
    assert await env.owner.fetch("SELECT * FROM slots WHERE last_holder IS NOT NULL") == first


async def test_late_release_keeps_the_next_holder(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    revoked = await env.revoke((await env.allocate("S-1")).delegation)
    await env.release(revoked)
    await env.end_quarantines()
    following = (await env.allocate("S-2")).delegation
    await asyncio.gather(*(env.release(revoked) for _ in range(4)))
    assert await env.owner.fetchval("SELECT delegation_id FROM slots") == following.id
