"""Tests of the records of accepted orders: each moves to `orders` when it is opened, and is claimed by one sweeper."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lastmile.contract import Operation, ResumeSubscriber
from lastmile.db import Database
from lastmile.subscribers.accepted_orders import (
    AcceptedOrder,
    SealedBody,
    WhenBusy,
    cancel_accepted_order,
    claim_waiting_orders,
    find_earlier_order,
    find_order,
    insert_accepted_order,
    refuse_accepted_order,
    release_claim,
)
from lastmile.subscribers.errors import OrderConflictError
from lastmile.subscribers.orders import open_order
from tests.subscribers.conftest import Act
from tests.support.processes import until

BODY = SealedBody(b"content", None)
NOW = timedelta()


def resume(order_id: str, subscriber: str = "S-1", **changes: Any) -> ResumeSubscriber:
    return ResumeSubscriber(tenant="acme", order_id=order_id, subscriber_ref=subscriber, **changes)


async def accept(act: Act, order_id: str, subscriber: str = "S-1", **changes: Any) -> str:
    """Accept an order; return its digest."""
    order = resume(order_id, subscriber, **changes)
    assert (await act(insert_accepted_order, order, WhenBusy.WAIT, BODY)).at is not None
    return order.digest


async def begin(act: Act, order_id: str, digest: str, subscriber: str = "S-1") -> None:
    await act(open_order, "acme", order_id, Operation.RESUME, subscriber, digest, "r1")


async def claim(database: Database, busy_pause: timedelta = timedelta(minutes=1), batch: int = 64) -> list[str]:
    async with database.platform() as connection:
        claimed: list[AcceptedOrder] = await claim_waiting_orders(
            connection, age=NOW, lease=timedelta(minutes=1), busy_pause=busy_pause, batch=batch
        )
    return [order.order_id for order in claimed]


async def test_open_order_moves_the_accepted_order(act: Act, owner: asyncpg.Connection) -> None:
    digest = await accept(act, "o1")
    assert (await act(find_order, "o1")).status == "waiting"
    await begin(act, "o1", digest)
    assert (await act(find_order, "o1")).status == "running"
    assert await owner.fetchval("SELECT count(*) FROM accepted_orders") == 0


async def test_open_order_that_fails_leaves_the_accepted_order(
    act: Act, database: Database, owner: asyncpg.Connection
) -> None:
    digest = await accept(act, "o1")

    async def fail_after_opening() -> None:
        async with database.tenant("acme") as connection:
            await open_order(connection, "acme", "o1", Operation.RESUME, "S-1", digest, "r1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_opening()
    assert (await act(find_order, "o1")).status == "waiting"
    assert await owner.fetchval("SELECT count(*) FROM orders") == 0


async def test_open_order_with_the_id_of_another_accepted_order_is_refused(act: Act) -> None:
    await accept(act, "o1")
    with pytest.raises(OrderConflictError, match=r"Order id o1 was used on 20.* for another resume \(subscriber S-1\)"):
        await begin(act, "o1", "another digest", "S-2")
    assert (await act(find_order, "o1")).status == "waiting"


async def test_open_order_of_a_cancelled_order_is_refused(act: Act) -> None:
    digest = await accept(act, "o1")
    assert await act(cancel_accepted_order, "o1", digest, "The customer changed their mind.")
    with pytest.raises(OrderConflictError, match=r"Order o1 was cancelled before it began\. Use a new id"):
        await begin(act, "o1", digest)
    assert (await act(find_order, "o1")).reason == "The customer changed their mind."


async def test_refused_order_keeps_the_reason_and_drops_the_body(act: Act, owner: asyncpg.Connection) -> None:
    digest = await accept(act, "o1")
    assert not await act(refuse_accepted_order, "o1", "another digest", "no")
    assert await act(refuse_accepted_order, "o1", digest, "There is nothing to resume.")
    assert not await act(refuse_accepted_order, "o1", digest, "The first reason stays.")
    row = await owner.fetchrow("SELECT state, reason, body FROM accepted_orders")
    assert tuple(row) == ("refused", "There is nothing to resume.", None)
    changes = await owner.fetchrow("SELECT action, before, after FROM audit_log WHERE record = 'accepted_orders'")
    assert changes["action"] == "changed"
    assert "content" not in changes["before"]


async def test_order_of_a_busy_subscriber_is_not_inserted_unless_it_may_wait(act: Act) -> None:
    await begin(act, "o1", "d")
    refused = await act(insert_accepted_order, resume("o2"), WhenBusy.REFUSE, BODY)
    assert (refused.at, refused.known, refused.earlier.order_id) == (None, None, "o1")
    waiting = await act(insert_accepted_order, resume("o2"), WhenBusy.WAIT, BODY)
    assert (waiting.at is None, waiting.earlier.order_id) == (False, "o1")


async def test_order_of_a_later_date_waits_for_no_other(act: Act) -> None:
    await begin(act, "o1", "d")
    later = resume("o2", not_before=datetime.now(UTC) + timedelta(days=1))
    inserted = await act(insert_accepted_order, later, WhenBusy.REFUSE, BODY)
    assert (inserted.at is None, inserted.ahead, inserted.earlier) == (False, True, None)


async def test_order_that_is_known_is_not_inserted(act: Act, owner: asyncpg.Connection) -> None:
    digest = await accept(act, "o1")
    again = await act(insert_accepted_order, resume("o1"), WhenBusy.REFUSE, BODY)
    assert (again.at, again.known.status, again.known.digest) == (None, "waiting", digest)
    await begin(act, "o1", digest)
    opened = await act(insert_accepted_order, resume("o1"), WhenBusy.WAIT, BODY)
    assert (opened.at, opened.known.status) == (None, "running")
    assert await owner.fetchval("SELECT count(*) FROM accepted_orders") == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_id_that_another_subscriber_takes_at_this_moment_is_known(
    act: Act, database: Database, owner: asyncpg.Connection, busy: bool
) -> None:
    if busy:
        await begin(act, "o1", "d", "S-2")
    async with database.tenant("acme") as first:
        await insert_accepted_order(first, resume("o2", "S-1"), WhenBusy.WAIT, BODY)
        second = asyncio.create_task(act(insert_accepted_order, resume("o2", "S-2"), WhenBusy.WAIT, BODY))
        waits = (
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await until(lambda: owner.fetchval(waits))
    inserted = await second
    assert (inserted.at, inserted.known.subscriber_ref) == (None, "S-1")


async def test_claim_returns_the_first_order_of_each_subscriber(act: Act, database: Database) -> None:
    await accept(act, "o1")
    await accept(act, "o2")
    await accept(act, "o3", "S-3", urgency="urgent")
    assert await claim(database) == ["o3", "o1"]
    assert await claim(database) == [], "the claims have not ended"


async def test_claim_after_its_release_returns_the_order_again(act: Act, database: Database) -> None:
    digest = await accept(act, "o1")
    assert await claim(database) == ["o1"]
    await act(release_claim, "o1", digest)
    assert await claim(database) == ["o1"]


async def test_claim_waits_for_the_open_order_of_the_subscriber(act: Act, database: Database) -> None:
    """Now and then the order is claimed all the same: the run of the open order may be lost."""
    await begin(act, "o1", "d")
    await accept(act, "o2")
    assert (await act(find_earlier_order, "S-1")).order_id == "o1"
    assert await claim(database) == []
    assert await claim(database, busy_pause=NOW) == ["o2"]


async def test_claim_of_an_order_of_a_later_date_waits_for_no_other(act: Act, database: Database) -> None:
    await begin(act, "o1", "d")
    await accept(act, "o2", not_before=datetime.now(UTC) + timedelta(days=1))
    await accept(act, "o3", "S-3")
    await accept(act, "o4", "S-3", not_before=datetime.now(UTC) + timedelta(days=1))
    assert sorted(await claim(database)) == ["o2", "o3", "o4"]


async def test_claims_at_the_same_moment_share_the_orders(act: Act, database: Database) -> None:
    """A sweeper takes the orders that no other sweeper is claiming, and waits for none."""
    ids = [f"o{number:02}" for number in range(20)]
    for order_id in ids:
        await accept(act, order_id, f"S-{order_id}")
    async with database.platform() as first:
        given = {"age": NOW, "lease": timedelta(minutes=1), "busy_pause": NOW}
        mine = [one.order_id for one in await claim_waiting_orders(first, **given, batch=10)]
        async with asyncio.timeout(2):
            others = await claim(database)
    assert sorted(mine + others) == ids
