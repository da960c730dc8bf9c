"""Commands on a machine that reaches the REST API alone: neither the database nor Temporal."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.api_keys import make_api_key
from tests.support.api_server import api_context, serving
from tests.support.commands import Book, Cli, lines
from tests.support.faults import Faults, refused

AHEAD = "2099-05-03T14:00:00+02:00"


@pytest.fixture
async def laptop(alone: Cli, database: Database, temporal_client: Client, settings: Settings) -> AsyncIterator[Cli]:
    """Return a command that knows only the address of the API and a token for `acme`."""
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter)
    key = await make_api_key(database)
    async with api_context(settings, database, client) as context, serving(context) as url:
        yield alone.but(LASTMILE_API_URL=url, LASTMILE_API_TOKEN=key.text)


async def test_lines_are_provisioned_changed_and_shown(laptop: Cli, book: Book, worker: None) -> None:

    ran = await laptop("provision", "-", "--json", stdin=lines(book.order(1), book.order(2)))
    assert (ran.code, [one["status"] for one in ran.json], ran.err) == (0, ["completed"] * 2, "")

    ran = await laptop("suspend", book.ref(), "--reason", "unpaid", "--mode", "block", "--dry-run")
    assert (ran.code, "1 of 1 orders would be carried out" in ran.out) == (0, True), ran.err
    ran = await laptop("suspend", book.ref(), "--reason", "unpaid", "--mode", "block", "--json")
    assert (ran.code, ran.json[0]["status"]) == (0, "completed"), ran.err
    shown = await laptop("status", book.ref())
    assert shown.code == 0, shown.err
    for words in ("for unpaid since", "Ada Example (C-1)", "2001:db8:", "ONU", "suspend", "provision"):
        assert words in shown.out
    (record,) = (await laptop("status", book.ref(), "--json")).json
    assert [one["operation"] for one in record["orders"]] == ["provision", "suspend"]
    assert (record["run"], record["scheduled"], record["run_unknown"]) == (None, [], "")
    refusal = await laptop("suspend", "S-404", "--reason", "unpaid", "--mode", "block")
    assert (refusal.code, "refused" in refusal.out) == (1, True)


async def test_order_that_waits_is_named_released_and_cancelled(
    laptop: Cli, book: Book, worker: None, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    running = asyncio.create_task(laptop("provision", "-", "--json", stdin=lines(book.order())))
    while not (waiting := (await laptop("attention", "--json")).json):
        pass
    assert [(one["subscriber_ref"], one["step"]) for one in waiting] == [(book.ref(), "allocate_ip_address")]
    assert "WAITS FOR AN OPERATOR" in (await laptop("status", book.ref())).out
    ran = await laptop("retry", book.ref(), "--why", "ticket 4711", "--by", "noc-7")
    assert (ran.code, ran.err) == (2, "--by: the REST API (LASTMILE_API_URL) records the caller of your token.\n")
    faults.before.clear()
    ran = await laptop("attention", "--step", "allocate_ip_address", "--decide", "retry", "--why", "ticket 4711")
    assert (ran.code, "retry_step of allocate_ip_address" in ran.out) == (0, True), ran.err
    ran = await running
    assert (ran.code, ran.json[0]["status"]) == (1, "rolled_back")
    ran = await laptop("cancel", book.ref())
    assert (ran.code, ran.err) == (
        1,
        f"No order of subscriber {book.ref()} is running: there is nothing to cancel.\n",
    )


async def test_scheduled_order_is_listed_moved_and_cancelled(laptop: Cli, book: Book) -> None:
    ran = await laptop("provision", "-", "--json", stdin=lines(book.order(not_before=AHEAD)))
    assert (ran.code, ran.json[0]["status"], ran.json[0]["at"]) == (0, "scheduled", "2099-05-03T12:00:00+00:00")
    while "O-1" not in (await laptop("scheduled", "list")).out:
        pass
    ran = await laptop("scheduled", "move", "O-1", "2098-01-02T00:00:00Z")
    assert (ran.code, ran.out) == (0, f"Order O-1 of subscriber {book.ref()} starts at 2098-01-02 00:00:00 UTC.\n")
    ran = await laptop("scheduled", "cancel", "O-1")
    assert (ran.code, ran.out) == (0, "Order O-1 is cancelled. It had not started.\n")
    ran = await laptop("scheduled", "cancel", "O-1")
    assert (ran.code, ran.err) == (1, "Order O-1 of tenant acme is not scheduled: it is cancelled.\n")


async def test_command_says_what_it_lacks(laptop: Cli, book: Book, database: Database) -> None:
    ran = await laptop("pool", "list")
    assert (ran.code, ran.err) == (
        3,
        "This command needs the database, and cannot use the REST API (LASTMILE_API_URL). Set DATABASE_URL.\n",
    )
    ran = await laptop("schedule", "list")
    assert (ran.code, ran.err.partition(" No ")[0]) == (
        3,
        "This command needs Temporal, and cannot use the REST API (LASTMILE_API_URL).",
    )
    ran = await laptop("status", book.ref(), "--show-password")
    assert (ran.code, ran.err) == (2, "--show-password: the REST API (LASTMILE_API_URL) shows no password.\n")
    ran = await laptop.but(LASTMILE_API_URL="http://127.0.0.1:1")("status", book.ref())
    words = "The API at http://127.0.0.1:1 does not answer. Check LASTMILE_API_URL and the network.\n"
    assert (ran.code, ran.err) == (3, words)
    ran = await laptop.but(LASTMILE_API_TOKEN=None)("attention")
    assert (ran.code, ran.err.startswith("LASTMILE_API_TOKEN is not set")) == (2, True)
    wrong = f"lm_{'a1' * 6}_{'b2' * 32}"
    ran = await laptop.but(LASTMILE_API_TOKEN=wrong)("attention")
    assert (ran.code, ran.err.startswith("The API does not accept LASTMILE_API_TOKEN: ")) == (2, True)
    assert wrong not in ran.err
    ran = await laptop.but(LASTMILE_API_TOKEN="two words")("attention")
    assert (ran.code, "LASTMILE_API_TOKEN: must be one word" in ran.err, "two words" in ran.err) == (2, True, False)
    ran = await laptop("status", book.ref(), "--tenant", "other")
    assert (ran.code, ran.err) == (2, "LASTMILE_API_TOKEN is for tenant acme, and --tenant names 'other'.\n")
    platform = await make_api_key(database, tenant=None)
    ran = await laptop.but(LASTMILE_API_TOKEN=platform.text)("status", book.ref())
    assert (ran.code, ran.err) == (2, "LASTMILE_API_TOKEN is for all tenants: name one with --tenant.\n")
    ran = await laptop("status", book.ref())
    assert (ran.code, "check the reference" in ran.err) == (1, True)
