"""`lastmile hooks`: sources are added and removed; events that are kept are listed, retried and ignored."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.client.hook_intake import HookIntake
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import Lastmile
from lastmile.db import Database
from lastmile.encryption.codec import data_converter
from lastmile.services.hooks.events import HookEvent
from lastmile.services.hooks.sources import find_source, list_sources
from lastmile.services.hooks.verification import HookRequest
from tests.support.commands import Cli
from tests.support.hooks import UispService

ADD = ("hooks", "add", "crm", "--mapping", "uisp", "--tenant", "acme")


@pytest.fixture
async def intake(database: Database) -> AsyncIterator[HookIntake]:
    """Return an intake of events while Temporal is away."""
    client = await Client.connect("127.0.0.1:1", lazy=True, data_converter=data_converter(None))
    async with OrderAcceptance(database, Lastmile(client)) as acceptance:
        yield HookIntake(database, acceptance)


async def receive(intake: HookIntake, database: Database, body: dict[str, Any]) -> HookEvent:
    (source,) = await list_sources(database)
    return (await intake.receive(source, body, json.dumps(body).encode())).event


async def test_source_is_added_with_its_secret_shown_once_and_removed(
    cli: Cli, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    assert "lastmile hooks add" in (await cli("hooks", "sources")).out
    (added,) = (await cli(*ADD, "--json")).json
    secret = added.pop("secret")
    stored = await find_source(database, "crm", None)
    assert stored is not None
    assert stored.verify(HookRequest({}, secret, b""))
    assert secret.encode() not in await owner.fetchval("SELECT secret FROM hook_sources")
    again = await cli(*ADD)
    assert (again.code, "There is a hook source crm already" in again.err) == (1, True)
    assert (await cli("hooks", "sources", "--json")).json == [added]
    assert secret not in (await cli("hooks", "sources")).out
    assert (await cli("hooks", "remove", "crm")).out == "Hook source crm removed. Its events stay.\n"
    unknown = await cli("hooks", "remove", "crm")
    assert (unknown.code, "lastmile hooks sources" in unknown.err) == (1, True)
    (tmp_path / "secret").write_text("made-by-the-crm-itself\n")
    (added,) = (await cli(*ADD, "--secret-file", str(tmp_path / "secret"), "--json")).json
    assert added["secret"] == "made-by-the-crm-itself"


async def test_wrong_options_of_a_source_are_refused_with_the_rule(cli: Cli, tmp_path: Path) -> None:
    ran = await cli("hooks", "add", "crm", "--mapping", "usip", "--tenant", "acme")
    assert (ran.code, "Did you mean 'uisp'?" in ran.err) == (2, True)
    (tmp_path / "secret").write_text("short")
    ran = await cli("hooks", "add", "My CRM", *ADD[3:], "--secret-file", str(tmp_path / "secret"))
    assert (ran.code, ran.err) == (
        2,
        "Invalid hook source:\n  SOURCE: must be lower-case letters, digits and '-', at most 24 characters\n"
        "  --secret-file: must be 16 to 200 characters of printable ASCII without blanks\n",
    )
    ran = await cli(*ADD, "--secret-file", str(tmp_path / "none"))
    assert (ran.code, "--secret-file: " in ran.err) == (2, True)


async def test_kept_event_is_listed_and_retried_after_its_repair(
    cli: Cli, intake: HookIntake, database: Database
) -> None:
    """Temporal is away: an order is accepted all the same."""
    cli = cli.but(TEMPORAL_ADDRESS="127.0.0.1:1")
    await cli(*ADD)
    assert (await cli("hooks", "list")).out == "No event is kept: each was ordered or needs no order.\n"
    service = UispService()
    kept = await receive(intake, database, service.event("service.suspend"))
    await receive(intake, database, UispService().event("service.add", attributes=[]))
    first, second = (await cli("hooks", "list", "--tenant", "acme", "--json")).json
    assert first["reason"] == "The subscriber has no line. Provision the line, and retry the event."
    assert {name: first[name] for name in ("id", "source", "event", "event_id", "subscriber_ref", "state")} == {
        "id": kept.id,
        "source": "crm",
        "event": "service.suspend",
        "event_id": kept.event_id,
        "subscriber_ref": service.ref,
        "state": "failed",
    }
    assert "body" not in first
    assert service.ref in (await cli("hooks", "list")).out
    retried = await cli("hooks", "retry")
    assert (retried.code, retried.out.count("is failed")) == (1, 2)

    await receive(intake, database, service.event("service.add"))
    retried = await cli("hooks", "retry", str(kept.id))
    assert (retried.code, retried.out) == (
        0,
        f"Event {kept.id} (crm, service.suspend) is ordered: crm-{kept.event_id}\n",
    )
    again = await cli("hooks", "retry", str(kept.id))
    assert (again.code, f"No event with the number {kept.id} is kept" in again.err) == (2, True)

    ignored = await cli("hooks", "ignore", str(second["id"]), "--why", "a test of the CRM", "--json")
    assert (ignored.code, ignored.json[0]["state"]) == (0, "ignored")
    assert ignored.json[0]["reason"].endswith(": a test of the CRM")
    assert (await cli("hooks", "retry")).out == "No event is kept.\n"


async def test_event_of_a_removed_source_says_how_to_settle_it(
    cli: Cli, intake: HookIntake, database: Database
) -> None:
    await cli(*ADD)
    kept = await receive(intake, database, UispService().event("service.suspend"))
    await cli("hooks", "remove", "crm")
    ran = await cli("hooks", "retry")
    assert (ran.code, f"lastmile hooks ignore {kept.id}" in ran.err) == (2, True)
    assert (await cli("hooks", "ignore", str(kept.id), "--why", "the CRM is gone")).code == 0
