"""Tests of the audit of IPoE lines, and of logins from another port than the line's."""

import asyncpg
import pytest

from lastmile.audit.audit import check
from lastmile.audit.invariants import NOTICES
from tests.support.audited_env import QUARANTINE, AuditedEnv

IPOE = {"access": "ipoe", "identified_by": "mac"}
MAC = "00:1a:2b:00:00:01"
ACCEPT = "INSERT INTO radpostauth (username, reply, class) VALUES ($1, 'Access-Accept', $2)"


async def reported(env: AuditedEnv) -> list[str]:
    """Return what the audit reports about the port of logins; nothing else may be reported."""
    assert await env.audit() == []
    found = [one async for one in check(env.database, None, NOTICES, unconfirmed=QUARANTINE.unconfirmed)]
    assert {one.invariant.name for one in found} <= {"another_port"}
    return [f"{one.subject}: {one.words}" for one in found]


def stored(text: str) -> str:
    """Return Class as FreeRADIUS stores it."""
    return f"0x{text.encode().hex()}"


async def test_audit_of_an_ipoe_line_finds_nothing_from_provision_to_deprovision(
    env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await env.provision(**IPOE)
    assert await owner.fetchval("SELECT username FROM radreply") == MAC
    assert await reported(env) == []
    await env.deprovision()
    assert await reported(env) == []
    assert await owner.fetchval("SELECT (SELECT count(*) FROM radcheck) + (SELECT count(*) FROM radreply)") == 0
    assert await owner.fetchval("SELECT username FROM delegation_revocations") == MAC


@pytest.mark.parametrize(
    ("table", "invariant"),
    [("radreply", "not_in_radius"), ("radcheck", "incomplete")],
)
async def test_audit_finds_what_an_ipoe_line_has_lost(
    env: AuditedEnv, owner: asyncpg.Connection, table: str, invariant: str
) -> None:
    await env.provision(**IPOE)
    await owner.execute(f"DELETE FROM {table}")
    assert invariant in {one.invariant.name for one in await env.audit()}


async def test_audit_repairs_an_address_that_only_radius_gives_to_an_ipoe_line(
    env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await env.provision(**IPOE)
    await owner.execute(
        "INSERT INTO radreply (username, attribute, op, value) VALUES ($1, 'Framed-IP-Address', ':=', '192.0.2.9'),"
        " ('a foreign user', 'Framed-IP-Address', ':=', '192.0.2.8')",
        MAC,
    )
    await env.repair(await env.audit())
    assert [one.subject for one in await env.audit()] == ["a foreign user"], "only rows of Lastmile's users"


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ('eth 1/1:7|C-1 \\"left\\"', []),
        ("|", []),
        ("eth 1/2:7|", ['S-1: its login of .* came from eth 1/2:7|, but the line is at eth 1/1:7|C-1 "left"']),
    ],
)
async def test_audit_reports_a_login_from_another_port_under_policy_log(
    env: AuditedEnv, owner: asyncpg.Connection, sent: str, found: list[str]
) -> None:
    for nth, policy in ((1, "log"), (2, "ignore")):
        await env.provision(nth, circuit_id="eth 1/1:7", remote_id='C-1 "left"', option82_policy=policy)
        await owner.execute(ACCEPT, f"S-{nth}@acme.lastmile", stored("somewhere|else"))
        await owner.execute(ACCEPT, f"S-{nth}@acme.lastmile", stored(sent))
    lines = await reported(env)
    assert len(lines) == len(found)
    for line, expected in zip(lines, found, strict=True):
        before, after = expected.split(".*")
        assert line.startswith(before)
        assert line.endswith(after)


async def test_audit_reports_no_login_whose_port_radius_has_not_stored(
    env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await env.provision(circuit_id="eth 1/1:7")
    for stored_class in (None, "", "0x", "something of the operator"):
        await owner.execute("DELETE FROM radpostauth")
        await owner.execute(ACCEPT, "S-1@acme.lastmile", stored_class)
        assert await reported(env) == []


async def test_restore_account_gives_back_the_user_name_and_the_checked_port(
    env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """A run commits `update_account` with its closing, so only a call of the activities undoes it."""
    rows = "SELECT username, attribute, op, value, tenant_id, subscriber_ref FROM radcheck ORDER BY attribute"
    await env.provision(access="ipoe", identified_by="circuit_id", circuit_id="olt-1 1", option82_policy="enforce")
    before = await owner.fetch(rows)
    ref = await env.relocate(circuit_id="olt-1 2", ends=None)
    assert {row["username"] for row in await owner.fetch(rows)} == {"olt-1 2"}
    await env.undo_relocate(ref)
    assert await owner.fetch(rows) == before
