"""Any sequence of allocations, transitions, releases, crashes and races, held against a model of the promise."""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import permutations
from typing import Any, ClassVar

import asyncpg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import event

from ipam.delegations import Delegation
from ipam.lifecycle import TRANSITIONS, State
from ipam.pools import add_pool
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import Database
from lastmile.errors import NonRetryableError
from lastmile.subscribers.tenants import add_tenant
from tests.ipam.model import POOLS, Action, Model, Move, Release, Request
from tests.support.allocation_env import PD, AllocationEnv

NEEDS = [PD, Need(Purpose.IPV4, 32), *(Need(Purpose.IPV4, 32, address=IPv4Address(f"198.51.100.{n}")) for n in (2, 5))]
ORDERS = ["o1", "o2", "o3", "o4"]

requests = st.builds(
    Request,
    tenant=st.sampled_from(["acme", "other"]),
    ref=st.sampled_from(["S-1", "S-2", "S-3", "S-4"]),
    order=st.sampled_from(ORDERS),
    need=st.sampled_from([PD, *NEEDS]),
)
# Which of the delegations held: a number, because races make what there is to choose from differ from run to run.
picks = st.integers(0, 11)
ends = st.sampled_from(State) | st.none()
"""Where to move a delegation; None releases it."""
plans = requests | st.tuples(picks, ends)
RENUMBERINGS = ["marked", "allocated", "cancelled", "switched"]
"""How far a renumbering comes."""
crashes = st.none() | st.integers(1, 4)
"""After how many statements the client that has made the last of them dies."""

# Said by the database itself; each must be empty.
WRONG = {
    "two overlapping prefixes in one VRF": """
        SELECT a.prefix, b.prefix FROM delegations a JOIN delegations b ON a.id < b.id AND a.prefix && b.prefix
        JOIN pools p ON p.id = a.pool_id JOIN pools q ON q.id = b.pool_id AND p.vrf = q.vrf
        WHERE a.released_at IS NULL AND b.released_at IS NULL""",
    "two live delegations for one purpose": """
        SELECT tenant_id, subscriber_ref, purpose FROM delegations
        WHERE state <> 'revoked' AND replaced_by_order IS NULL GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "a slot and its delegation that do not know each other": """
        SELECT d.id, s.slot FROM (SELECT * FROM delegations WHERE released_at IS NULL) d
        FULL JOIN (SELECT * FROM slots WHERE delegation_id IS NOT NULL) s
        ON s.delegation_id = d.id AND s.pool_id = d.pool_id AND s.slot = d.slot
        WHERE d.id IS NULL OR s.slot IS NULL""",
    "a state without its event": """
        SELECT d.id FROM delegations d WHERE d.state IS DISTINCT FROM (
            SELECT to_state FROM delegation_events e WHERE e.delegation_id = d.id ORDER BY e.id DESC LIMIT 1)""",
    "a slot that its pool does not have": """
        SELECT s.slot FROM slots s JOIN pools p ON p.id = s.pool_id
        WHERE s.slot < p.first_slot OR s.slot >= p.end_slot""",
    "a count that is not true": """
        SELECT tenant_id, pool_id, state, held, in_netbox, sum(number)
        FROM (SELECT *, 1 AS sign FROM delegation_census UNION ALL SELECT *, -1 FROM delegation_counts) both_counts
        GROUP BY 1, 2, 3, 4, 5 HAVING sum(sign * number) <> 0""",
}
ANYTHING_WRONG = f"SELECT {', '.join(f'EXISTS ({query})' for query in WRONG.values())}"
"""All of them in one request."""


class Crash(Exception):
    """Roll back, as after the loss of the client."""


class Allocations(RuleBasedStateMachine):
    runner: ClassVar[asyncio.Runner]
    env: ClassVar[AllocationEnv]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.seen: dict[tuple[Request, Delegation], None] = {}
        """Every earlier version of each delegation, in the order of the reads."""
        self.crash_after: int | None = None
        event.listen(self.env.database.engine.sync_engine, "after_cursor_execute", self._after_statement)

    def teardown(self) -> None:
        event.remove(self.env.database.engine.sync_engine, "after_cursor_execute", self._after_statement)

    def _after_statement(self, *_: Any) -> None:
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after == 0:
                raise Crash

    def act(self, *actions: Action, crash: int | None = None) -> None:
        """Do them all at once. Together the answers must make sense in some order, without those of the dead."""

        async def answers() -> list[Any]:
            return await asyncio.gather(*map(self.perform, actions), return_exceptions=True)

        self.crash_after = crash
        answered = list(zip(actions, self.runner.run(answers()), strict=True))
        self.crash_after = None
        lived = [(action, answer) for action, answer in answered if not isinstance(answer, Crash)]
        died = len(lived) < len(actions)
        assert crash is not None or not died
        for order in permutations(lived):
            model = deepcopy(self.model)
            if all(model.explains(action, answer, rival_died=died) for action, answer in order):
                self.model = model
                self.seen |= dict.fromkeys(model.held.values())
                return
        raise AssertionError(answered)

    def perform(self, action: Action) -> Awaitable[Any]:
        if isinstance(action, Request):
            return self.env.allocate(action.ref, action.order, action.need, tenant=action.tenant)
        if isinstance(action, Move):
            return self.env.move(action.seen, action.state, tenant=action.tenant)
        return self.env.release(action.seen, tenant=action.tenant)

    def planned(self, plan: Request | tuple[int, State | None]) -> list[Action]:
        """The action that is meant; none where there is no delegation to move or release."""
        if isinstance(plan, Request):
            return [plan]
        n, state = plan
        return [
            Release(request.tenant, seen) if state is None else Move(request.tenant, seen, state)
            for request, seen in self.picked(n)
        ]

    def picked(self, n: int) -> list[tuple[Request, Delegation]]:
        """The n-th of the delegations held, in a list; an empty one where none is."""
        held = list(self.model.held.values())
        return held[n % len(held) :][:1] if held else []

    @initialize()
    def empty(self) -> None:
        async def pools() -> None:
            await self.env.owner.execute("TRUNCATE pools, slots, delegations, delegation_events CASCADE")
            async with self.env.database.platform() as platform:
                for pool in POOLS:
                    await add_pool(platform, pool)

        self.runner.run(pools())

    @rule(plan=plans, crash=crashes)
    def one(self, plan: Request | tuple[int, State | None], crash: int | None) -> None:
        self.act(*self.planned(plan), crash=crash)

    @rule(first=plans, second=plans, crash=crashes)
    def two_at_once(self, first: Any, second: Any, crash: int | None) -> None:
        self.act(*self.planned(first), *self.planned(second), crash=crash)

    @rule(n=picks, first=ends, second=ends, crash=crashes)
    def two_on_one(self, n: int, first: State | None, second: State | None, crash: int | None) -> None:
        """Two that have read the same delegation, in the same state."""
        self.act(*self.planned((n, first)), *self.planned((n, second)), crash=crash)

    @rule(n=picks, m=picks)
    def late(self, n: int, m: int) -> None:
        """One that has read a delegation a while ago, and moves it where it could go then."""
        for request, seen in [*self.seen][::-1][n : n + 1]:
            ways = sorted(TRANSITIONS[seen.state])
            self.act(*(Move(request.tenant, seen, state) for state in ways[m % (len(ways) or 1) :][:1]))

    @rule(first=requests, order=st.sampled_from(ORDERS), crash=crashes)
    def twice(self, first: Request, order: str, crash: int | None) -> None:
        """Two attempts of one order, or two orders of one subscriber."""
        self.act(first, replace(first, order=order), crash=crash)

    @rule(n=picks)
    def take_down(self, n: int) -> None:
        """Revoke and release in the usual order, so that prefixes are assigned again."""
        for request, delegation in self.picked(n):
            for state in (State.REVOKING, State.REVOKED, None):
                held = self.model.held[delegation.id][1]
                self.act(Move(request.tenant, held, state) if state else Release(request.tenant, held))

    @rule(n=picks, order=st.sampled_from(ORDERS))
    def come_back(self, n: int, order: str) -> None:
        for request, _ in self.picked(n):
            self.take_down(n)
            self.act(replace(request, order=order))

    @rule(
        n=picks, order=st.sampled_from(ORDERS), ends=st.sampled_from(["marked", "allocated", "cancelled", "switched"])
    )
    def renumber(self, n: int, order: str, ends: str) -> None:
        """Replace a prefix, as far as the order comes before it is lost."""
        for request, delegation in self.picked(n):
            if delegation.state is State.ALLOCATED:
                self.act(Move(request.tenant, delegation, State.ACTIVE))
            of_order = (request.ref, order)
            self.replacing(
                self.env.begin_replacement(*of_order, request.need.purpose, tenant=request.tenant), request.holder
            )
            if ends != "marked":
                self.act(replace(request, order=order, need=Need(request.need.purpose, request.need.length)))
            if ends == "cancelled":
                self.replacing(self.env.cancel_replacement(*of_order, tenant=request.tenant), request.holder)
            if ends == "switched":
                for other, new in list(self.model.held.values()):
                    if other.holder == request.holder and new.state is State.ALLOCATED:
                        self.act(Move(request.tenant, new, State.ACTIVE))
                self.replacing(self.env.switch(*of_order, tenant=request.tenant), request.holder)

    def replacing(self, work: Coroutine[Any, Any, Any], holder: tuple[str, str, Purpose]) -> None:
        """Let the model know the marks. Only prefixes of the holder can get or lose one."""

        async def marks() -> dict[int, dict[str, Any]]:
            with suppress(NonRetryableError):
                await work
            rows = await self.env.owner.fetch(
                "SELECT id, replaced_by_order, replaced_at, replaced_until FROM delegations WHERE released_at IS NULL"
            )
            return {row["id"]: {name: value for name, value in row.items() if name != "id"} for row in rows}

        for number, found in self.runner.run(marks()).items():
            request, delegation = self.model.held[number]
            marked = replace(delegation, **found)
            assert marked == delegation or request.holder[:2] == holder[:2]
            self.model.held[number] = (request, marked)
        self.seen |= dict.fromkeys(self.model.held.values())

    @rule(n=picks, crash=crashes)
    def suspend_and_resume(self, n: int, crash: int | None) -> None:
        """Suspend a line and resume it: it keeps its prefix, whichever of the two is lost."""
        for request, delegation in self.picked(n):
            for state in (State.SUSPENDED, State.ACTIVE):
                held = self.model.held[delegation.id][1]
                self.act(Move(request.tenant, held, state), crash=crash)

    @rule()
    def end_quarantines(self) -> None:
        self.runner.run(self.env.end_quarantines())
        self.model.resting.clear()

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        async def rows() -> list[asyncpg.Record]:
            return [
                *await self.env.owner.fetch(
                    "SELECT id, tenant_id, subscriber_ref, prefix, state FROM delegations WHERE released_at IS NULL"
                )
            ]

        assert {row["id"]: tuple(row)[1:] for row in self.runner.run(rows())} == {
            number: (request.tenant, request.ref, delegation.prefix, delegation.state)
            for number, (request, delegation) in self.model.held.items()
        }

    @invariant()
    def nothing_is_wrong(self) -> None:
        found = self.runner.run(self.env.owner.fetchrow(ANYTHING_WRONG))
        for (what, query), is_wrong in zip(WRONG.items(), found, strict=True):
            assert not is_wrong, (what, self.runner.run(self.env.owner.fetch(query)))


def test_any_sequence_keeps_the_promise(owner_url: str) -> None:
    async def open_desk() -> AllocationEnv:
        database = Database(owner_url, pool_size=2)
        async with database.platform() as platform:
            await add_tenant(platform, "acme", "Acme Broadband")
            await add_tenant(platform, "other", "Other Networks")
        return AllocationEnv(database, await asyncpg.connect(owner_url))

    async def close(env: AllocationEnv) -> None:
        await env.owner.close()
        await env.database.close()

    with asyncio.Runner() as runner:
        env = runner.run(open_desk())
        machine = type("Machine", (Allocations,), {"runner": runner, "env": env})
        try:
            run_state_machine_as_test(
                machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
            )
        finally:
            runner.run(close(env))
