"""The link back from NetBox: of a client that has one it is kept right, of one that has none it is left alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.binding import ReportingScope
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.records import LINK
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES, Kept
from tests.support.reconciliation import found, kinds, repaired

WHERE = "https://ui.example.net/{tenant}/{subscriber}"
FIRST = "https://ui.example.net/acme/S-1"


@pytest.fixture(params=[Kept, Delegated])
async def kept(
    request: pytest.FixtureRequest, owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer
) -> AsyncIterator[Kept]:
    """Without a link, and a line; its record is in NetBox."""
    async with request.param.serving(owner_url, owner, standin) as kept:
        await kept.pool(**({"record": ReportingScope.PREFIX} if isinstance(kept, Delegated) else {}))
        await kept.provision()
        await kept.agree()
        yield kept


@asynccontextmanager
async def linking(kept: Kept) -> AsyncIterator[None]:
    """In the block the steps, the keeper and reconciliation have a client with a link."""
    async with NetBox(kept.server.url, kept.server.token, link=WHERE) as netbox:
        without, kept.netbox = kept.netbox, netbox
        kept.use(netbox)
        yield
    kept.netbox = without
    kept.use(without)


def record(kept: Kept) -> dict[str, Any]:
    [one] = kept.records()
    return dict(one)


def link(kept: Kept) -> str | None:
    shown: str | None = record(kept)["custom_fields"].get(LINK)
    return shown


async def test_a_link_that_was_configured_later_is_filled_in(kept: Kept) -> None:
    assert link(kept) is None
    assert await kinds(kept, everything=True) == []
    async with linking(kept):
        [one] = await found(kept, everything=True)
        assert (one.kind, one.words) == (DifferenceKind.DRIFT, f"S-1's, active: link none => {FIRST}")
        assert await repaired(kept, everything=True) == [""]
    assert link(kept) == FIRST
    await kept.agree()


async def test_a_link_of_before_is_replaced(kept: Kept) -> None:
    kept.peer.send("PATCH", f"{PREFIXES}{record(kept)['id']}/", {"custom_fields": {LINK: "https://old.example.net"}})
    async with linking(kept):
        assert [one.words for one in await found(kept)] == [f"S-1's, active: link https://old.example.net => {FIRST}"]
        assert await repaired(kept) == [""]
    assert link(kept) == FIRST


async def test_who_has_no_link_leaves_it_alone(kept: Kept) -> None:
    """Whatever is repaired there, and an order goes on there."""
    async with linking(kept):
        assert await repaired(kept, everything=True) == [""]
    kept.peer.send("PATCH", f"{PREFIXES}{record(kept)['id']}/", {"status": "reserved"})
    assert [one.words for one in await found(kept)] == ["S-1's, active: status reserved => active"]
    assert await repaired(kept) == [""]
    assert link(kept) == FIRST
    await kept.deprovision()
    await kept.agree()
    assert (record(kept)["status"], link(kept)) == ("deprecated", FIRST)
