"""Tests of logins and sessions that appear after a confirmed end, and of unconfirmed sessions."""

import asyncio

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from activities.maintenance.audit import AuditActivities
from lastmile.audit.audit import Violation, check
from lastmile.audit.invariants import NOTICES
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.audited_env import QUARANTINE, AuditedEnv

USER = "S-1@acme.lastmile"
WAITS = "wait_event_type = 'Lock' AND datname = current_database()"
ACCEPT = f"INSERT INTO radpostauth (username, reply) VALUES ('{USER}', 'Access-Accept')"
START = (
    "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
    f" VALUES ($1, $1, '{USER}', '192.0.2.1', now())"
)


async def found(env: AuditedEnv) -> list[Violation]:
    return [one for one in await env.audit() if one.invariant.name == "confirmed_too_early"]


async def notices(env: AuditedEnv, tenant: str | None = None) -> list[Violation]:
    return [one async for one in check(env.database, tenant, NOTICES, unconfirmed=QUARANTINE.unconfirmed)]


async def confirmed(owner: asyncpg.Connection) -> bool:
    """Return whether the end is confirmed, and check the quarantine of the prefix."""
    row = await owner.fetchrow(
        "SELECT d.disconnect_confirmed, s.free_at - d.released_at AS rest FROM slots s"
        " JOIN delegations d USING (pool_id, slot) WHERE d.subscriber_ref = 'S-1' ORDER BY d.id LIMIT 1"
    )
    assert row["rest"] == (QUARANTINE.confirmed if row["disconnect_confirmed"] else QUARANTINE.unconfirmed)
    return bool(row["disconnect_confirmed"])


@pytest.fixture
async def released(env: AuditedEnv, owner: asyncpg.Connection) -> str:
    """The prefix of S-1, whose only session ended before the deprovision order."""
    await env.provision()
    prefix = await env.prefix()
    await owner.execute(ACCEPT)
    await owner.execute(START, "1")
    await owner.execute("UPDATE radacct SET acctstoptime = now()")
    await env.deprovision()
    assert await confirmed(owner)
    assert await env.audit() == await notices(env) == []
    return prefix


@pytest.mark.parametrize("appears", ["a login", "a session", "both"])
async def test_confirmation_before_a_late_login_or_session_is_withdrawn(
    env: AuditedEnv, owner: asyncpg.Connection, released: str, appears: str
) -> None:
    if appears != "a session":
        await owner.execute(ACCEPT)
    if appears != "a login":
        await owner.execute(START, "2")

    (violation,) = await found(env)
    assert violation.subject == released
    assert await env.repair([violation]) == [violation]

    assert not await confirmed(owner)
    assert await found(env) == []
    (notice,) = await notices(env)
    expected = "a login that accounting has not reported" if appears == "a login" else "session 2 on NAS 192.0.2.1"
    assert (notice.subject, expected in notice.words) == (released, True)
    assert await notices(env, "other") == []


async def test_confirmation_before_a_login_in_an_open_transaction_is_withdrawn(
    env: AuditedEnv, owner: asyncpg.Connection, owner_url: str
) -> None:
    """A RADIUS server has read the account before the block, and commits its Access-Accept after the release."""
    await env.provision()
    late = await asyncpg.connect(owner_url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(ACCEPT)
    await env.deprovision()
    assert await confirmed(owner)
    assert await found(env) == []
    await transaction.commit()
    await late.close()
    assert await env.repair(await found(env)) != []
    assert not await confirmed(owner)


async def test_confirmation_before_a_late_session_that_has_ended_stays(
    env: AuditedEnv, owner: asyncpg.Connection, released: str
) -> None:
    await owner.execute(ACCEPT)
    await owner.execute(START, "2")
    await owner.execute("UPDATE radacct SET acctstoptime = now()")
    assert await found(env) == []


async def test_confirmation_of_a_subscriber_that_came_back_stays(
    env: AuditedEnv, owner: asyncpg.Connection, released: str
) -> None:
    await env.provision(order="O-11")
    await owner.execute(ACCEPT)
    await owner.execute(START, "2")
    assert await found(env) == []


async def test_confirmation_of_a_prefix_with_another_holder_stays_a_finding(
    env: AuditedEnv, owner: asyncpg.Connection, released: str
) -> None:
    await owner.execute("UPDATE slots SET free_at = now() - interval '1 s' WHERE last_holder IS NOT NULL")
    await owner.execute("UPDATE delegations SET released_at = now() - interval '1 hour'")
    await owner.execute("UPDATE slots SET free_at = 'infinity' WHERE last_holder IS NULL AND delegation_id IS NULL")
    await env.provision(2)
    assert await env.prefix(2) == released
    await owner.execute(START, "2")
    (violation,) = await found(env)
    assert "S-2 of tenant acme holds the prefix now" in violation.words
    assert await env.repair([violation]) == []
    assert await found(env) == [violation]


@pytest.mark.parametrize(
    "since",
    [
        pytest.param("DELETE FROM slots WHERE last_holder IS NOT NULL", id="its block went back to NetBox"),
        pytest.param("UPDATE slots SET last_holder = 'acme/S-2/ipv6_pd' WHERE last_holder IS NOT NULL", id="had since"),
    ],
)
async def test_confirmation_of_a_prefix_past_quarantine_stays_a_finding(
    env: AuditedEnv, owner: asyncpg.Connection, released: str, since: str
) -> None:
    await owner.execute(since)
    await owner.execute(START, "2")
    (violation,) = await found(env)
    assert await env.repair([violation]) == []
    assert await found(env) == [violation]


async def test_confirmation_of_a_prefix_that_is_being_allocated_stays_a_finding(
    env: AuditedEnv, owner: asyncpg.Connection, owner_url: str, released: str
) -> None:
    await owner.execute(START, "2")
    (violation,) = await found(env)
    allocation = await asyncpg.connect(owner_url)
    transaction = allocation.transaction()
    await transaction.start()
    await allocation.execute("UPDATE slots SET delegation_id = 0, last_holder = NULL WHERE last_holder IS NOT NULL")
    repair = asyncio.create_task(env.repair([violation]))
    while not await owner.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {WAITS}"):  # noqa: ASYNC110 -- there is no event to wait for
        await asyncio.sleep(0.01)
    await transaction.commit()
    await allocation.close()
    assert await repair == []
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True


async def test_confirmation_before_the_window_is_ignored(
    env: AuditedEnv, owner: asyncpg.Connection, released: str
) -> None:
    await owner.execute("UPDATE delegations SET released_at = released_at - interval '8 days'")
    await owner.execute(START, "2")
    assert await found(env) == []


async def test_notice_names_a_session_that_no_nas_confirmed(env: AuditedEnv, owner: asyncpg.Connection) -> None:
    await env.provision()
    prefix = await env.prefix()
    await owner.execute(START, "4F0C-01")
    await env.deprovision()
    assert not await confirmed(owner)
    assert await env.audit() == [], "no promise is broken"
    (notice,) = await notices(env)
    assert notice.subject == prefix
    assert "the end of session 4F0C-01 on NAS 192.0.2.1; it is in quarantine until" in notice.words


async def test_retry_after_a_withdrawn_confirmation_ends_the_session(
    env: AuditedEnv, owner: asyncpg.Connection, released: str
) -> None:
    async with (
        ScriptedNas(b"between-us", sessions={"2": {"User-Name": USER}}) as nas,
        DynamicAuthorization(timeout=30, tries=1, in_flight=1) as authorization,
    ):
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', 'between-us', $1)",
            nas.nas.port,
        )
        await owner.execute(START.replace("192.0.2.1", "127.0.0.1"), "2")
        await env.repair(await found(env))
        activities = AuditActivities(env.database, authorization, QUARANTINE)
        result = await ActivityEnvironment().run(activities.retry_disconnects)
        assert nas.sessions == {}
    assert result.counts == {"disconnects_retried": 1, "disconnects_confirmed": 1}
    assert await notices(env) == []
