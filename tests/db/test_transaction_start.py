"""How a tenant's transaction begins: settings and fence in one message, of which row-level security sees the first."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lastmile.db import Database, Fence
from lastmile.db.direct import savepoint
from lastmile.subscribers.errors import OrderFencedError
from lastmile.subscribers.orders import COMPENSATION_FENCE, STEP_FENCE
from tests.support.round_trips import counted

FENCES = pytest.mark.parametrize("fence", [STEP_FENCE, COMPENSATION_FENCE], ids=["step", "compensation"])
ORDER = """
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)
VALUES ($1, $2, 'provision', 'creates', 'S-9', 'd', 'r1', $3)
"""
# What PostgreSQL can hold as text.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = ("tenant", "actor", "order", "subscriber")


async def _lockable(owner: asyncpg.Connection, tenant: str, order_id: str) -> bool:
    """Return whether no transaction has locked the order."""
    try:
        await owner.execute(
            f"SELECT FROM orders WHERE tenant_id = '{tenant}' AND order_id = '{order_id}' FOR UPDATE NOWAIT"
        )
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _statuses(owner: asyncpg.Connection, order_id: str) -> dict[str, str]:
    rows = await owner.fetch("SELECT tenant_id, status FROM orders WHERE order_id = $1", order_id)
    return {row["tenant_id"]: row["status"] for row in rows}


@FENCES
async def test_fence_of_same_order_id_locks_own_tenants_order_alone(
    populated: asyncpg.Connection, application: Database, fence: Fence
) -> None:
    for tenant in ("acme", "other"):
        await populated.execute(ORDER, tenant, "o9", "running")
    async with application.tenant("acme", order_id="o9", fence=fence):
        assert not await _lockable(populated, "acme", "o9")
        assert await _lockable(populated, "other", "o9")
    acme = "running" if fence is STEP_FENCE else "rolling_back"
    assert await _statuses(populated, "o9") == {"acme": acme, "other": "running"}


@FENCES
async def test_fence_of_another_tenants_order_refuses(
    populated: asyncpg.Connection, application: Database, fence: Fence
) -> None:
    await populated.execute(ORDER, "other", "o9", "running")
    # On a connection that has just acted for the other tenant.
    async with application.tenant("other", order_id="o9", fence=STEP_FENCE):
        pass
    with pytest.raises(OrderFencedError):
        async with application.tenant("acme", order_id="o9", fence=fence):
            pass
    assert await _statuses(populated, "o9") == {"other": "running"}


@FENCES
@pytest.mark.parametrize("status", ["running", "rolling_back", "completed", "superseded"])
async def test_fence_refuses_an_order_that_has_moved_on(
    populated: asyncpg.Connection, application: Database, fence: Fence, status: str
) -> None:
    await populated.execute(ORDER, "acme", "o9", status)
    allowed = {"running"} if fence is STEP_FENCE else {"running", "rolling_back"}
    if status in allowed:
        async with application.tenant("acme", order_id="o9", fence=fence):
            pass
    else:
        with pytest.raises(OrderFencedError, match="Order o9"):
            async with application.tenant("acme", order_id="o9", fence=fence):
                pass
    moved = status in allowed and fence is COMPENSATION_FENCE
    assert await _statuses(populated, "o9") == {"acme": "rolling_back" if moved else status}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))
@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_settings_arrive_as_they_are_whatever_they_contain(
    application: Database, conforming: str, values: tuple[str, str, str, str]
) -> None:
    async with application.engine.connect() as connection:
        await connection.execute(text(f"SET standard_conforming_strings = {conforming}"))
    tenant, actor, order_id, subscriber_ref = values
    async with application.tenant(tenant, actor=actor, order_id=order_id, subscriber_ref=subscriber_ref) as connection:
        seen = await connection.execute(
            text("SELECT " + ", ".join(f"current_setting('lastmile.{name}')" for name in NAMES))
        )
        assert tuple(seen.one()) == values


@pytest.mark.parametrize(
    "tenant", ["acme', true), set_config('lastmile.tenant', 'other", "acme\\', true); SET ROLE lastmile_platform; --"]
)
async def test_tenant_that_contains_sql_sees_nothing(
    populated: asyncpg.Connection, application: Database, tenant: str
) -> None:
    async with application.tenant(tenant) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM customers")) == 0


async def test_tenant_with_a_nul_character_is_refused(application: Database) -> None:
    with pytest.raises(ValueError, match="NUL"):
        async with application.tenant("acme\0"):
            pass


async def test_connection_whose_fence_failed_is_clean_for_the_next_transaction(
    populated: asyncpg.Connection, application: Database
) -> None:
    async with application.tenant("acme") as connection:
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
    with pytest.raises(DBAPIError, match="division by zero"):
        async with application.tenant("acme", fence=Fence("SELECT 1 / 0", OrderFencedError)):
            pass
    assert await populated.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", backend) == "idle"
    async with application.tenant("acme") as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == backend


async def test_cancel_of_a_transaction_that_waits_for_its_fence_leaves_nothing_locked(
    populated: asyncpg.Connection, application: Database
) -> None:
    await populated.execute(ORDER, "acme", "o9", "running")

    async def begin() -> None:
        async with application.tenant("acme", order_id="o9", fence=COMPENSATION_FENCE):
            pass

    async with populated.transaction():
        await populated.execute("SELECT FROM orders WHERE order_id = 'o9' FOR UPDATE")
        waiting = asyncio.create_task(begin())
        while not await populated.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with application.tenant("acme", order_id="o9", fence=STEP_FENCE):
        pass
    assert await _statuses(populated, "o9") == {"acme": "running"}


async def test_commit_on_a_lost_connection_fails(populated: asyncpg.Connection, application: Database) -> None:
    async def change() -> None:
        async with application.tenant("acme") as connection:
            await connection.execute(text("UPDATE customers SET name = 'Grace'"))
            backend = await connection.scalar(text("SELECT pg_backend_pid()"))
            await populated.execute("SELECT pg_terminate_backend($1, 5000)", backend)

    with pytest.raises(DBAPIError):
        await change()
    assert await populated.fetchval("SELECT count(*) FROM customers WHERE name = 'Grace'") == 0


async def test_commit_after_a_failed_statement_fails(application: Database) -> None:
    async def change() -> None:
        async with application.tenant("acme") as connection:
            with suppress(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(DBAPIError, match="did not commit"):
        await change()


async def test_transaction_takes_two_round_trips_and_one_for_each_statement(
    populated: asyncpg.Connection, login_url: str
) -> None:
    """With its fence, its settings and its commit; each statement is prepared once for each connection."""
    await populated.execute(ORDER, "acme", "o9", "running")
    async with counted(login_url) as trips:
        database = Database(trips.url)

        async def taken(statements: int, savepoints: int = 0) -> int:
            before = trips.count
            async with database.tenant("acme", order_id="o9", fence=STEP_FENCE) as connection:
                for _ in range(savepoints):
                    async with savepoint(connection):
                        pass
                for _ in range(statements):
                    await connection.execute(text("SELECT count(*) FROM orders"))
            return trips.count - before

        try:
            await taken(1, 1)  # connects, and prepares the statement
            assert await taken(0) == 2
            assert await taken(1) == 3
            assert await taken(5) == 7
            assert await taken(0, savepoints=3) == 2 + 3
        finally:
            await database.close()
