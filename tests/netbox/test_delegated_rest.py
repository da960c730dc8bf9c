"""How long NetBox shows a released prefix of a delegated pool: as long as it rests, whatever comes to change that."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.netbox.binding import ReportingScope
from ipam.netbox.records import STATE
from ipam.quarantine import confirm, unconfirmed
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import Delegated
from tests.support.reconciliation import kinds
from tests.support.steps import QUARANTINE

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        await kept.pool(record=ReportingScope.PREFIX)
        yield kept


async def released(kept: Delegated, *, confirmed: bool) -> None:
    """A line that had the first prefix, of which NetBox has been told all."""
    await kept.provision()
    await kept.begin("S-1", "D-1", "deprovision")
    await kept.revoke()
    await kept.owner.execute("UPDATE delegations SET disconnect_confirmed = $1", confirmed)
    await kept.release()
    await kept.close("S-1", "D-1")
    assert await kept.agree() == []
    assert [one["custom_fields"][STATE] for one in kept.records()] == ["revoked"]


async def goes_by(kept: Delegated, time: str) -> None:
    for when in (
        "UPDATE slots SET free_at = free_at - $1::text::interval WHERE free_at > now() AND free_at < 'infinity'",
        "UPDATE netbox_records SET due_at = due_at - $1::text::interval",
    ):
        await kept.owner.execute(when, time)


async def test_until_it_has_rested(kept: Delegated) -> None:
    await released(kept, confirmed=True)
    await goes_by(kept, "24 hours")
    assert await kept.agree() == []
    assert kept.records() == []


async def test_no_longer_once_the_end_of_its_session_is_confirmed(kept: Delegated) -> None:
    """It rests for a day then, not for a week: NetBox must not show it for six days more."""
    await released(kept, confirmed=False)
    async with kept.database.platform() as platform:
        [one] = await unconfirmed(platform, QUARANTINE, most=10)
        assert await confirm(platform, one, QUARANTINE)
    assert await kept.agree() == []
    await goes_by(kept, "24 hours")
    assert await kept.beat()
    assert kept.records() == []
    assert await kinds(kept, everything=True) == []


async def test_no_longer_once_a_person_has_the_space(kept: Delegated) -> None:
    await released(kept, confirmed=True)
    await kept.by_hand("2001:db8:4000::/60")
    assert await kept.beat()
    assert await kept.beat()
    assert [one["prefix"] for one in kept.records()] == ["2001:db8:4000::/60"]
    assert await kinds(kept, everything=True) == []
