"""The hourly audit finds what is broken, repairs what is safe to repair, and asks again for the end of sessions."""

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
from tests.support.orders import Orders, log_in, rest_seconds


async def acknowledged(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Of each invariant with findings: how many are left, and how many are acknowledged."""
    rows = await owner.fetch("SELECT * FROM audit_findings WHERE violations > 0 OR acknowledged > 0")
    return {row["invariant"]: (row["violations"], row["acknowledged"]) for row in rows}


async def findings(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    rows = await owner.fetch("SELECT invariant, violations, repaired FROM audit_findings")
    return {row["invariant"]: (row["violations"], row["repaired"]) for row in rows}


async def test_all_is_well(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await owner.execute(
        "INSERT INTO audit_findings (invariant, violations, repaired) VALUES ('of_another_version', 1, 0)"
    )
    assert await maintenance.audit() == AuditResult()
    assert await findings(owner) == {invariant.name: (0, 0) for invariant in INVARIANTS}


async def test_a_degraded_order_is_repaired(
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


async def test_what_only_a_person_can_decide_is_left_and_counted(
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
        assert not await acknowledge(connection, first, by="noc-8", why="again"), "the first word stands"

    assert (await maintenance.audit()).violations == {"incomplete": 1}
    assert await acknowledged(owner) == {"incomplete": (1, 1)}
    snapshot = await compute_snapshot(database)
    for metric in ("lastmile_audit_violations", "lastmile_audit_acknowledged"):
        assert values(snapshot, metric)[("incomplete",)] == 1, "the metrics follow with the next snapshot"

    await owner.execute("DELETE FROM radcheck WHERE username LIKE $1 || '@%'", first.subject)
    await maintenance.audit()
    assert await acknowledged(owner) == {"incomplete": (2, 0)}, "the finding has other words now"

    await owner.execute("INSERT INTO billing_services SELECT * FROM kept")
    await maintenance.audit()
    assert await owner.fetchval("SELECT count(*) FROM acknowledgements") == 0
    entries = await owner.fetch("SELECT actor, action FROM audit_log WHERE record = 'acknowledgements' ORDER BY id")
    assert [tuple(entry) for entry in entries] == [("noc", "created"), ("audit", "removed")]


async def test_what_cannot_be_checked_is_told_and_the_rest_is_checked(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    faults.before["retry_disconnects"] = refused
    with pytest.raises(WorkflowFailureError) as failure:
        await maintenance.audit()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.message == "not done, and left to the next run: ask again for the end of sessions"
    assert AuditResult.model_validate(cause.details[0]).errors == 1
    assert len(await findings(owner)) == len(INVARIANTS)


async def unconfirmed(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas) -> None:
    """A line that is down, whose NAS did not answer."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.DEGRADED
    assert 7100 < await rest_seconds(owner) <= 7200


async def test_a_nas_is_asked_again_and_its_prefix_rests_no_longer_than_others(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await unconfirmed(lastmile, orders, owner, nas)

    result = await maintenance.audit()
    assert (result.disconnects_retried, result.disconnects_confirmed) == (1, 0)
    assert await rest_seconds(owner) > 7000, "the NAS is silent still"

    nas.script = lambda _: ACK
    result = await maintenance.audit()
    assert (result.disconnects_retried, result.disconnects_confirmed) == (1, 1)
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert 3500 < await rest_seconds(owner) <= 3600
    assert (await maintenance.audit()).disconnects_retried == 0


async def test_a_session_of_who_came_back_is_left_alone(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """It took another prefix, as the one it had is kept for nobody by then; the old session is over, the new is not."""
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


async def test_a_prefix_that_its_subscriber_has_again_is_asked_about_no_more(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await unconfirmed(lastmile, orders, owner, nas)
    await lastmile.execute(orders.provision("O-2"))
    assert await owner.fetchval("SELECT count(DISTINCT prefix) FROM delegations") == 1
    assert (await maintenance.audit()).disconnects_retried == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE slots SET free_at = 'infinity' WHERE last_holder IS NOT NULL", "a stranger's in NetBox"),
        ("UPDATE slots SET free_at = free_at + interval '1 s' WHERE last_holder IS NOT NULL", "another release's rest"),
        ("UPDATE slots SET free_at = now() - interval '1 s' WHERE last_holder IS NOT NULL", "rested"),
    ],
)
async def test_a_rest_that_another_gave_is_not_shortened(
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


async def test_a_login_that_accounting_did_not_report_stays_in_doubt(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """Also when the subscriber has come back, and the session of that login is known."""
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
