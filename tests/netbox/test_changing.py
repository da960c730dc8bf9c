"""A pool changes its mode: every way from each to each, with prefixes held and at rest, and orders meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from ipaddress import IPv6Network

import asyncpg
import pytest
from sqlalchemy import text

from audit.audit import check
from db.database import PlatformConnection
from devstack.netbox import NetBoxServer
from devstack.netbox.faults import CUT, DROPPED, LOST, Fault
from ipam import changing
from ipam.allocation import allocate
from ipam.binding import Binding, Mode, OnRelease, Record
from ipam.bound import BoundPool
from ipam.changing import change
from ipam.conversions import NotYet, become_delegated, become_direct
from ipam.errors import PeopleThere, PoolBusy
from ipam.models import Need, Purpose
from ipam.netbox.errors import NetBoxError
from ipam.pools import Pool, add_pool, list_pools
from ipam.reconcile import differences
from ipam.surrounding import missing_blocks, surround
from tests.netbox.kept import AVAILABLE, PREFIXES, SPACE, VRF, Kept, refusal
from tests.netbox.shared_out import Delegated

REST = timedelta(days=7)
BLOCK = 16

DATABASE = None
DIRECT = (Mode.DIRECT, None)
BLOCKS = (Mode.DELEGATED, Record.BLOCK)
PREFIX = (Mode.DELEGATED, Record.PREFIX)
Way = tuple[Mode, Record | None]


class Changeable(Delegated):
    """As `Delegated`; its pool starts in any mode."""

    prefix_id = 0

    async def start(self, way: Way | None, on_release: OnRelease = OnRelease.DEPRECATE) -> None:
        made = await asyncio.to_thread(
            self.peer.create, PREFIXES, prefix=SPACE, vrf=self.vrf, status="container", description="home"
        )
        self.prefix_id = made["id"]
        described = {"name": "home", "prefix": SPACE, "tenant": "acme", "vrf": VRF, "delegated_length": 56}
        described |= {"purpose": Purpose.IPV6_PD, "netbox": way and self.place(way, on_release)}
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate(described))

    def place(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int = 52) -> Binding:
        mode, record = way
        return Binding(
            mode=mode,
            prefix_id=self.prefix_id,
            vrf_id=self.vrf,
            on_release=on_release,
            record=record,
            block_length=length if mode is Mode.DELEGATED else None,
        )

    async def change(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int = 52) -> None:
        async with self.database.platform() as platform:
            [pool] = [use.pool for use in await list_pools(platform)]
        await change(self.database, self.netbox, pool, self.place(way, on_release, length), rest=REST)

    async def agree_as(self, way: Way | None) -> list[str]:
        """Raise unless NetBox, the database, the audit and the reconciliation say the same, as the mode has it; what is
        held."""
        if way not in (None, DIRECT):
            assert await self.beat()
        found = differences(self.database, self.netbox, everything=True)
        assert [str(one) async for one in found] == []
        if way == DIRECT:
            assert self.containers() == [], "its blocks are given back"
            return sorted(await Kept.agree(self))
        if way is None:
            assert (self.containers(), self.records()) == ([], [])
            assert [one async for one in check(self.database)] == []
            return sorted(row[0] for row in await self.owner.fetch(HELD))
        return sorted(await self.agree())


HELD = "SELECT prefix::text FROM delegations WHERE released_at IS NULL"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Changeable]:
    async with Changeable.serving(owner_url, owner, standin, read_timeout=3) as kept:
        yield kept


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "ROUND", timedelta(milliseconds=50))


async def resting(kept: Changeable) -> set[str]:
    """What nobody can have now, and nobody holds."""
    rows = await kept.owner.fetch(
        """
        SELECT lastmile_nth_prefix(p.prefix, 56, slot)::text FROM slots JOIN pools p ON p.id = pool_id
        WHERE delegation_id IS NULL AND free_at > now() AND free_at < 'infinity'
        UNION SELECT prefix::text FROM netbox_removals WHERE prefix IS NOT NULL
        """
    )
    return {row[0] for row in rows}


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_every_way(kept: Changeable, before: Way | None, after: Way) -> None:
    await kept.start(before)
    await kept.lines(BLOCK + 3)
    await kept.deprovision("S-1", "D-1")
    await kept.begin("S-99", "O-99")
    await kept.allocate("S-99", "O-99")
    if before is None:
        held = sorted(row[0] for row in await kept.owner.fetch(HELD))
    else:
        if before == DIRECT:
            await kept.run(kept.addresses.activate_ipv6_lifecycle, kept.ref("S-99", "O-99"))
        else:
            await kept.finish("S-99", "O-99")
        held = await kept.agree_as(before)
    rests = await resting(kept)
    assert len(rests) == 1

    await kept.change(after)

    if before is None:
        await kept.finish("S-99", "O-99")
    elif before == DIRECT:
        await kept.close("S-99", "O-99")
    assert await kept.agree_as(after) == held
    assert await resting(kept) == rests
    given = await kept.lines(5, start=200)
    assert not set(given) & (set(held) | rests)
    for n in range(2, BLOCK + 4):
        await kept.deprovision(f"S-{n}", f"D-{n}")
    assert await kept.agree_as(after) == sorted([*given, *(set(held) & {await prefix_of(kept, "S-99")})])
    await kept.change(after)
    assert len(await kept.agree_as(after)) == 6, "the same again changes nothing"


async def prefix_of(kept: Changeable, ref: str) -> str:
    return str(
        await kept.owner.fetchval(
            "SELECT prefix::text FROM delegations WHERE subscriber_ref = $1 AND released_at IS NULL", ref
        )
    )


@pytest.mark.parametrize("before", [DIRECT, BLOCKS, PREFIX])
async def test_back_and_forth(kept: Changeable, before: Way) -> None:
    await kept.start(before)
    await kept.lines(BLOCK)
    held = await kept.agree_as(before)
    for way in (PREFIX, DIRECT, BLOCKS, DIRECT, PREFIX, BLOCKS):
        await kept.change(way)
        assert await kept.agree_as(way) == held


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_orders_meanwhile(kept: Changeable, before: Way | None, after: Way) -> None:
    await kept.start(before)
    await kept.lines(8)

    async def customers(start: int) -> list[str]:
        async def one(n: int) -> str:
            ref, order = f"S-{n}", f"O-{n}"
            await kept.begin(ref, order)
            prefix = str(await kept.insist(lambda: kept.allocate(ref, order), most=1000))
            await kept.insist(lambda: kept.activate(ref, order))
            await kept.close(ref, order)
            return prefix

        return [await one(n) for n in range(start, start + 12)]

    async def leavers() -> None:
        for n in range(1, 9):
            ref, order = f"S-{n}", f"D-{n}"
            await kept.begin(ref, order, "deprovision")
            for step in (kept.addresses.revoke_ipv6_lifecycle, kept.addresses.release_ip_address):
                await kept.insist(partial(kept.run, step, kept.ref(ref, order)))
            await kept.close(ref, order)

    async def operator() -> None:
        while True:  # as people do
            try:
                return await kept.change(after)
            except (PoolBusy, NetBoxError):
                await asyncio.sleep(0.01)

    first, second, *_ = await asyncio.gather(customers(100), customers(200), leavers(), operator())
    given = [*first, *second]
    assert len(set(given)) == 24
    assert await kept.agree_as(after) == sorted(given)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED])
async def test_what_is_lost_on_the_way(kept: Changeable, fault: Fault, method: str) -> None:
    await kept.start(DATABASE)
    held = sorted(await kept.lines(BLOCK))
    for way in (DIRECT, BLOCKS, PREFIX, DIRECT):
        kept.server.faults.next(fault, method=method, path=PREFIXES, times=3)
        for _ in range(20):
            try:
                await kept.change(way)
                break
            except NetBoxError:
                await kept.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")
            except PoolBusy:  # NetBox may be at work on it still: an hour goes by
                await kept.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")
        kept.server.faults.clear()
        for _ in range(5):
            await kept.beat()
        assert await kept.agree_as(way) == held


async def test_netbox_away_changes_nothing(kept: Changeable) -> None:
    await kept.start(DATABASE)
    await kept.lines(3)
    kept.server.stop()
    with pytest.raises(NetBoxError):
        await kept.change(BLOCKS)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") is None
    assert len(await kept.lines(2, start=50)) == 2
    kept.server.start()
    await kept.change(BLOCKS)
    assert len(await kept.agree_as(BLOCKS)) == 5


@pytest.mark.parametrize("after", [DIRECT, BLOCKS])
async def test_a_persons_prefix_over_a_subscribers_is_refused(kept: Changeable, after: Way) -> None:
    await kept.start(DATABASE)
    await kept.lines(1)
    theirs = await kept.by_hand("2001:db8:4000::/60")
    with pytest.raises(PeopleThere, match=r"2001:db8:4000::/60, where S-1 holds 2001:db8:4000::/56"):
        await kept.change(after)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") is None
    assert kept.containers() == []
    await kept.deleted_by_hand(theirs)
    await kept.change(after)
    assert await kept.agree_as(after) == ["2001:db8:4000::/56"]


async def test_a_persons_prefix_that_would_be_a_block_is_refused(kept: Changeable) -> None:
    await kept.start(DATABASE)
    await kept.lines(1)
    await kept.by_hand("2001:db8:4000:1000::/52")
    with pytest.raises(PeopleThere, match=r"2001:db8:4000:1000::/52, where block 2001:db8:4000:1000::/52 would be"):
        await kept.change(BLOCKS)


async def test_what_a_person_has_beside_subscribers_is_respected(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.lines(3)
    await kept.by_hand("2001:db8:4000:300::/56")
    await kept.by_hand("2001:db8:4000:800::/53")
    await kept.change(PREFIX)
    given = sorted(await kept.lines(BLOCK - 3 - 1 - 8 + 1, start=50), key=lambda one: int(one.split(":")[3], 16))
    assert [one.split(":")[3] for one in given] == ["400", "500", "600", "700", "1000"]


async def test_a_direct_pool_whose_order_waits_is_not_changed(
    kept: Changeable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "ROUNDS", 2)
    await kept.start(DIRECT)
    await kept.begin()
    kept.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    assert not (await refusal(kept.allocate())).non_retryable
    with pytest.raises(PoolBusy, match="orders for S-1 wait for a prefix of pool home"):
        await kept.change(BLOCKS)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") == "direct"
    await kept.allocate_in_the_end()
    await kept.finish()
    await kept.change(BLOCKS)
    assert len(await kept.agree_as(BLOCKS)) == 1


async def test_an_order_while_a_pool_changes_hands_waits(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute'")
    await kept.begin()
    failure = await refusal(kept.allocate())
    assert (failure.type, failure.non_retryable) == ("PoolChanging", False)
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = now()")
    await kept.provision("S-2", "O-2")


async def test_on_release_and_the_length_of_blocks(kept: Changeable) -> None:
    await kept.start(PREFIX)
    await kept.lines(2)
    await kept.deprovision("S-1", "D-1")
    await kept.agree()
    assert sorted(one["status"] for one in kept.records()) == ["active", "deprecated"]
    await kept.change(PREFIX, OnRelease.DELETE, 54)
    await kept.agree()
    assert [one["status"] for one in kept.records()] == ["active"]
    await kept.change(PREFIX, OnRelease.DEPRECATE, 54)
    await kept.agree()
    assert sorted(one["status"] for one in kept.records()) == ["active", "deprecated"]
    await kept.lines(BLOCK, start=50)
    assert {one["prefix"].partition("/")[2] for one in kept.containers()} == {"52", "54"}
    await kept.change(DIRECT, OnRelease.DELETE)
    await kept.deprovision("S-2", "D-2")
    assert len(await kept.agree_as(DIRECT)) == BLOCK


async def test_blocks_left_by_a_change_that_was_given_up(kept: Changeable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one may want blocks of another length."""
    await kept.start(DIRECT)
    await kept.lines(2)
    await kept.begin("S-9", "O-9")
    kept.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    await refusal(kept.allocate("S-9", "O-9"))
    with monkeypatch.context() as patience:
        patience.setattr(changing, "ROUNDS", 1)
        with pytest.raises(PoolBusy):
            await kept.change(BLOCKS)
    assert [one["prefix"] for one in kept.containers()] == ["2001:db8:4000::/52"]
    await kept.allocate_in_the_end("S-9", "O-9")
    await kept.finish("S-9", "O-9")
    await kept.change(BLOCKS, length=48)
    assert [one["prefix"] for one in kept.containers()] == ["2001:db8:4000::/48"]
    assert len(await kept.agree_as(BLOCKS)) == 3


# At the very moment


async def waiting(kept: Changeable, number: int = 1) -> None:
    """Until so many wait for a lock of somebody else's transaction."""
    while True:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        if await kept.owner.fetchval(query) >= number:
            return
        await asyncio.sleep(0.01)


async def pool_as(kept: Changeable, way: Way) -> BoundPool:
    id = await kept.owner.fetchval("SELECT id FROM pools")
    return BoundPool(id, "home", IPv6Network(SPACE), 56, kept.place(way))


async def all_but_the_last_step(kept: Changeable, before: Way) -> None:
    if before == DIRECT:
        pool = await pool_as(kept, PREFIX)
        for prefix in await missing_blocks(kept.database, pool):
            await surround(kept.database, kept.netbox, pool, prefix)
        await kept.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute'")
    else:
        await kept.agree()


async def last_step(kept: Changeable, connection: PlatformConnection, before: Way) -> None:
    if before == DIRECT:
        await become_delegated(connection, await pool_as(kept, PREFIX), direct=True)
    else:
        await become_direct(connection, await pool_as(kept, DIRECT))


@pytest.mark.parametrize(("before", "after"), [(DIRECT, PREFIX), (PREFIX, DIRECT)])
async def test_a_release_at_the_very_moment(kept: Changeable, before: Way, after: Way) -> None:
    """It has read the delegation as it was, and comes to write when it is otherwise."""
    await kept.start(before)
    await kept.lines(3)
    await kept.begin("S-1", "D-1", "deprovision")
    step, ref = kept.addresses.release_ip_address, kept.ref("S-1", "D-1")
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, ref)
    await all_but_the_last_step(kept, before)
    async with kept.database.platform() as connection:
        await last_step(kept, connection, before)
        releasing = asyncio.create_task(kept.run(step, ref))
        await waiting(kept)
    failure = await refusal(releasing)
    assert (failure.type, failure.non_retryable) == ("StateChanged", False)
    await kept.run(step, ref)
    await kept.close("S-1", "D-1")
    await kept.change(after)
    for _ in range(3):
        await kept.beat()
    assert len(await kept.agree_as(after)) == 2
    assert len(await resting(kept)) == 1


async def test_an_allocation_before_the_very_moment_comes_first(kept: Changeable) -> None:
    await kept.start(PREFIX)
    await kept.lines(3)
    await kept.agree()
    pool = await pool_as(kept, DIRECT)
    async with kept.database.tenant("acme") as connection:
        need = Need(Purpose.IPV6_PD, 56)
        await allocate(connection, tenant="acme", subscriber_ref="S-9", order_id="O-9", need=need)

        async def changing_it() -> None:
            async with kept.database.platform() as platform:
                await become_direct(platform, pool)

        task = asyncio.create_task(changing_it())
        await waiting(kept)
    with pytest.raises(NotYet):  # NetBox has yet to be told of it
        await task
    assert await kept.owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL") == 4


async def test_an_allocation_at_the_very_moment_finds_the_pool_as_it_is_then(kept: Changeable) -> None:
    await kept.start(PREFIX)
    held = await kept.lines(3)
    await kept.agree()
    await kept.begin("S-9", "O-9")
    async with kept.database.platform() as connection:
        await last_step(kept, connection, PREFIX)
        allocating = asyncio.create_task(kept.allocate_in_the_end("S-9", "O-9"))
        await waiting(kept)
    given = await allocating
    await kept.finish("S-9", "O-9")
    await kept.beat()
    assert await kept.agree_as(DIRECT) == sorted([*held, given])


async def test_a_change_and_an_allocation_do_not_wait_for_each_other(kept: Changeable) -> None:
    await kept.start(PREFIX)
    held = await kept.lines(3)
    await kept.agree()
    await kept.begin("S-9", "O-9")
    pool = await pool_as(kept, DIRECT)

    async def changing_it() -> None:
        async with kept.database.platform() as connection:
            await become_direct(connection, pool)

    async with kept.database.platform() as other:
        await other.execute(text("SELECT FROM delegations LIMIT 1 FOR UPDATE"))
        task = asyncio.create_task(changing_it())
        await waiting(kept)
        allocating = asyncio.create_task(kept.allocate("S-9", "O-9"))
        await waiting(kept, 2)
    await task
    given = await allocating
    await kept.finish("S-9", "O-9")
    await kept.beat()
    assert await kept.agree_as(DIRECT) == sorted([*held, given])
