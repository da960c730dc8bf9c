"""The hourly audit finds violations, repairs the safe ones, and repeats unconfirmed disconnects."""

from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from lastmile.audit.acknowledgements import acknowledge
from lastmile.audit.audit import check
from lastmile.audit.invariants import INVARIANTS
from lastmile.client.orders import Lastmile
from lastmile.contract import AuditResult, ResultStatus
from lastmile.db import Database
from lastmile.devstack.nas import ACK, Answer, Request, ScriptedNas
from lastmile.metrics.snapshot import compute_snapshot
from tests.metrics.snapshot_values import values
from tests.support.faults import Faults, refused
from tests.support.maintenance import Maintenance
from tests.support.orders import Orders, log_in, quarantine_seconds


async def acknowledged(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Return the numbers of open and acknowledged findings, by invariant with findings."""
    rows = await owner.fetch("SELECT * FROM audit_findings WHERE violations > 0 OR acknowledged > 0")
    return {row["invariant"]: (row["violations"], row["acknowledged"]) for row in rows}


async def findings(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    rows = await owner.fetch("SELECT invariant, violations, repaired FROM audit_findings")
    return {row["invariant"]: (row["violations"], row["repaired"]) for row in rows}


async def test_audit_without_violations_reports_none(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await owner.execute(
        "INSERT INTO audit_findings (invariant, violations, repaired) VALUES ('of_another_version', 1, 0)"
    )
    assert await maintenance.audit() == AuditResult()
    assert await findings(owner) == {invariant.name: (0, 0) for invariant in INVARIANTS}


async def test_audit_repairs_a_degraded_order(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    faults.before["activate_ipv6_lifecycle"] = refused
    assert (await lastmile.execute(orders.provision())).status is ResultStatus.DEGRADED

    with capture_logs() as logs:
        result = await maintenance.audit()

    assert (result.repaired, result.violations) == (1, {})
    assert await owner.fetchval("SELECT state FROM delegations") == "active"
    assert await owner.fetchval("SELECT count(*) FROM radreply") == 1
    assert (await findings(owner))["not_active"] == (0, 1)
    assert [entry["invariant"] for entry in logs if entry["event"] == "audit.violated"] == ["not_active"]
    assert await owner.fetchval("SELECT actor FROM audit_log ORDER BY id DESC LIMIT 1") == "audit"


async def test_audit_counts_what_it_cannot_repair(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    for nth in range(2):
        await lastmile.execute(orders.provision(f"O-{nth}", nth))
    await owner.execute("DELETE FROM billing_services")
    for _ in range(2):
        result = await maintenance.audit()
        assert (result.violations, result.repaired, result.errors) == ({"incomplete": 2}, 0, 0)
        assert (await findings(owner))["incomplete"] == (2, 0)


async def test_audit_of_an_acknowledged_finding_counts_it_apart_until_it_is_gone(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, database: Database
) -> None:
    for nth in range(2):
        await lastmile.execute(orders.provision(f"O-{nth}", nth))
    await owner.execute("CREATE TABLE kept AS SELECT * FROM billing_services; DELETE FROM billing_services")
    first, _ = [one async for one in check(database)]
    async with database.platform(actor="noc") as connection:
        assert await acknowledge(connection, first, by="noc-7", why="billed elsewhere")
        assert not await acknowledge(connection, first, by="noc-8", why="again"), "the first acknowledgement stays"

    assert (await maintenance.audit()).violations == {"incomplete": 1}
    assert await acknowledged(owner) == {"incomplete": (1, 1)}
    snapshot = await compute_snapshot(database)
    for metric in ("lastmile_audit_violations", "lastmile_audit_acknowledged"):
        assert values(snapshot, metric)[("incomplete",)] == 1, "the metrics follow with the next snapshot"

    await owner.execute("DELETE FROM radcheck WHERE username LIKE $1 || '@%'", first.subject)
    await maintenance.audit()
    assert await acknowledged(owner) == {"incomplete": (2, 0)}, "the text of the finding has changed"

    await owner.execute("INSERT INTO billing_services SELECT * FROM kept")
    await maintenance.audit()
    assert await owner.fetchval("SELECT count(*) FROM acknowledgements") == 0
    entries = await owner.fetch("SELECT actor, action FROM audit_log WHERE record = 'acknowledgements' ORDER BY id")
    assert [tuple(entry) for entry in entries] == [("noc", "created"), ("audit", "removed")]


async def test_audit_with_a_failed_part_checks_the_others_and_fails(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    faults.before["retry_disconnects"] = refused
    with pytest.raises(WorkflowFailureError) as failure:
        await maintenance.audit()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.message == "not done, and left to the next run: repeat unconfirmed disconnects"
    assert AuditResult.model_validate(cause.details[0]).errors == 1
    assert len(await findings(owner)) == len(INVARIANTS)


async def unconfirmed(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas) -> None:
    """Deprovision a subscriber whose NAS does not answer."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.DEGRADED
    assert 7100 < await quarantine_seconds(owner) <= 7200


async def test_audit_repeats_a_disconnect_and_shortens_the_quarantine(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await unconfirmed(lastmile, orders, owner, nas)

    result = await maintenance.audit()
    assert (result.disconnects_retried, result.disconnects_confirmed) == (1, 0)
    assert await quarantine_seconds(owner) > 7000, "the NAS still does not answer"

    nas.script = lambda _: ACK
    result = await maintenance.audit()
    assert (result.disconnects_retried, result.disconnects_confirmed) == (1, 1)
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert 3500 < await quarantine_seconds(owner) <= 3600
    assert (await maintenance.audit()).disconnects_retried == 0


async def test_audit_leaves_the_new_session_of_a_returning_subscriber(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """The subscriber got another prefix. The audit disconnects the old session, and not the new one."""
    await unconfirmed(lastmile, orders, owner, nas)
    await owner.execute("UPDATE slots SET last_holder = 'acme/' || gen_random_uuid() WHERE last_holder IS NOT NULL")
    await lastmile.execute(orders.provision("O-2"))
    await log_in(owner, orders, "4F0C-02", nas)
    asked = []

    def answer(request: Request) -> Answer:
        asked.append(request.session)
        return ACK

    nas.script = answer
    assert (await maintenance.audit()).disconnects_confirmed == 1
    assert asked == ["4F0C-01"]


async def test_audit_sends_no_disconnect_for_a_prefix_held_again(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await unconfirmed(lastmile, orders, owner, nas)
    await lastmile.execute(orders.provision("O-2"))
    assert await owner.fetchval("SELECT count(DISTINCT prefix) FROM delegations") == 1
    assert (await maintenance.audit()).disconnects_retried == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE slots SET free_at = 'infinity' WHERE last_holder IS NOT NULL", "under a foreign prefix"),
        ("UPDATE slots SET free_at = free_at + interval '1 s' WHERE last_holder IS NOT NULL", "another release"),
        ("UPDATE slots SET free_at = now() - interval '1 s' WHERE last_holder IS NOT NULL", "over"),
    ],
)
async def test_audit_does_not_shorten_another_quarantine(
    lastmile: Lastmile,
    orders: Orders,
    maintenance: Maintenance,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
    change: str,
    why: str,
) -> None:
    await unconfirmed(lastmile, orders, owner, nas)
    nas.script = lambda _: ACK
    await owner.execute(change)
    before = await owner.fetch("SELECT slot, free_at FROM slots ORDER BY slot")
    assert (await maintenance.audit()).disconnects_retried == 0, why
    assert [row["free_at"] for row in await owner.fetch("SELECT free_at FROM slots ORDER BY slot")] == [
        row["free_at"] for row in before
    ]


async def test_audit_keeps_an_unreported_login_unconfirmed(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """This holds when the subscriber has returned and accounting reports a session of the new line."""
    await lastmile.execute(orders.provision())
    user = f"{orders.ref}@acme.lastmile"
    await owner.execute("INSERT INTO radpostauth (username, reply) VALUES ($1, 'Access-Accept')", user)
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.DEGRADED
    await owner.execute("UPDATE slots SET last_holder = 'acme/' || gen_random_uuid() WHERE last_holder IS NOT NULL")
    await lastmile.execute(orders.provision("O-2"))
    await log_in(owner, orders, "4F0C-02", nas)

    assert (await maintenance.audit()).disconnects_confirmed == 0
    await owner.execute("UPDATE radpostauth SET recorded_at = recorded_at - $1::interval", timedelta(hours=3))
    assert (await maintenance.audit()).disconnects_confirmed == 1, "no session lasts that long"
