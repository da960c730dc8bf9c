"""The audit by its service, as the API will call it."""

from datetime import timedelta

import asyncpg
import pytest

from lastmile.contract import Decision
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.services.audit import Auditor, UnknownFindingError, last_audit

DECISION = Decision(by="noc-7", why="known")


@pytest.fixture
def auditor(database: Database) -> Auditor:
    return Auditor(database, None, unconfirmed=timedelta(days=7), vrf_attribute=None)


@pytest.fixture
async def lost_prefix(database: Database, owner: asyncpg.Connection) -> str:
    """An active delegation that RADIUS does not hand out, which the audit finds."""
    await owner.execute(
        "INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,"
        " created_by_order, state) SELECT 'acme', id, first_slot, '2001:db8::/56', 'S-1', 'ipv6_pd', 'k', 'O-1',"
        " 'active' FROM pools WHERE name = 'home'"
    )
    return "2001:db8::/56"


async def test_audit_of_an_empty_database_has_no_violation(auditor: Auditor, database: Database) -> None:
    report = await auditor.audit()

    assert (report.violations, report.netbox_problem, (await last_audit(database)).violations) == ([], "", 0)


async def test_acknowledged_violation_is_left_and_not_unacknowledged(auditor: Auditor, lost_prefix: str) -> None:
    before = (await auditor.audit("acme")).unacknowledged
    violation = next(one for one in before if lost_prefix in one.subject)

    invariant, subject = violation.invariant.name, violation.subject
    for changed in (True, False):
        found = await auditor.acknowledge(invariant, subject, DECISION, tenant="acme", actor="ada")
        assert found == [(violation, changed)]
    report = await auditor.audit("acme")
    assert report.violations == before
    assert report.unacknowledged == [one for one in before if one != violation]
    assert report.acknowledged[violation.finding].by == "noc-7"

    assert await auditor.acknowledge(invariant, subject, DECISION, withdraw=True, actor="ada") == [(violation, True)]
    assert (await auditor.audit("acme")).unacknowledged == before


async def test_acknowledge_of_what_the_audit_does_not_find_is_refused(auditor: Auditor) -> None:
    with pytest.raises(InvalidInputError, match="There is no invariant 'nothing'"):
        await auditor.acknowledge("nothing", "S-1", DECISION, actor="ada")
    with pytest.raises(UnknownFindingError, match="The audit has no finding overlap about S-1"):
        await auditor.acknowledge("overlap", "S-1", DECISION, actor="ada")
