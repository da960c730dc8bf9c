"""Orders for a later date on the command line: held, shown, moved, forgotten; never started by mistake."""

import asyncpg
import pytest

from tests.support.commands import Book, Cli, lines

pytestmark = pytest.mark.usefixtures("database")

AHEAD = "2099-05-03T14:00:00+02:00"


async def waiting(cli: Cli, order_id: str) -> str:
    """The list, once it has the order; Temporal lists a new Schedule after a moment."""
    while order_id not in (shown := (await cli("scheduled", "list", "--tenant", "acme")).out):
        pass
    return shown


async def test_scheduled_move_and_cancel_of_a_scheduled_order(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    later, now = f"L-{book.mark}", f"N-{book.mark}"
    file = lines(
        book.order(1, order_id=later, not_before=AHEAD),
        book.order(2, order_id=now, not_before="2020-01-01T00:00:00Z"),
    )

    ran = await cli("provision", "-", "--json", stdin=file)

    results = {result["order_id"]: result for result in ran.json}
    assert (ran.code, results[now]["status"]) == (0, "completed")
    assert results[later] == {
        "status": "scheduled",
        "schedule": f"order/acme/{later}",
        "tenant": "acme",
        "order_id": later,
        "subscriber_ref": book.ref(1),
        "operation": "provision",
        "at": "2099-05-03T12:00:00+00:00",
        "paused": False,
        "unreadable": "",
    }
    assert [row[0] for row in await owner.fetch("SELECT order_id FROM orders")] == [now]
    shown = (await cli("provision", "-", stdin=file)).out
    assert "scheduled" in shown
    assert f"starts at 2099-05-03 12:00:00 UTC, by Temporal Schedule order/acme/{later}" in shown

    assert "2099-05-03 12:00:00 UTC" in await waiting(cli, later)
    ran = await cli("scheduled", "move", later, "2098-01-02T00:00:00Z", "--tenant", "acme")
    assert (ran.code, ran.out) == (0, f"Order {later} of subscriber {book.ref(1)} starts at 2098-01-02 00:00:00 UTC.\n")
    results = {result["order_id"]: result for result in (await cli("provision", "-", "--json", stdin=file)).json}
    assert results[later]["at"] == "2098-01-02T00:00:00+00:00"

    ran = await cli("scheduled", "cancel", later, "--tenant", "acme")
    assert (ran.code, ran.out) == (0, f"Order {later} is cancelled. It had not started.\n")
    ran = await cli("scheduled", "cancel", later, "--tenant", "acme")
    assert (ran.code, ran.err) == (1, f"No order {later} of tenant acme is scheduled.\n")


async def test_scheduled_list_without_orders_says_so(cli: Cli) -> None:
    ran = await cli("scheduled", "list", "--tenant", "other")
    assert (ran.code, ran.out[:23]) == (0, "No order is scheduled. ")
    ran = await cli("scheduled", "list", "--tenant", "other", "--json")
    assert (ran.code, ran.out) == (0, "")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("tomorrow", "TIME: must be a time in ISO 8601 with its zone, as in 2028-09-01T08:00:00+02:00, and is 'tomo"),
        ("2099-01-01T00:00", "TIME: must be a time in ISO 8601 with its zone, as in 2028-09-01T08:00:00+02:00, and"),
        ("20990101T00Z", "TIME: must be a time in ISO 8601 with its zone"),
        ("0001-01-01T00:00:00+14:00", "TIME: must be a time in the years 2000 to 2099, and is '0001-01-01T00:00:00+14"),
        ("2100-01-01T00:00:00Z", "TIME: must be a time in the years 2000 to 2099, and is '2100-01-01T00:00:00Z'."),
        ("2020-01-01T00:00Z", "TIME: 2020-01-01 00:00:00 UTC is in the past. To start it now, cancel it"),
    ],
)
async def test_scheduled_move_to_an_invalid_time_is_refused(cli: Cli, time: str, words: str) -> None:
    ran = await cli("scheduled", "move", "O-1", time, "--tenant", "acme")
    assert (ran.code, words in ran.err) == (2, True)


async def test_scheduled_cancel_needs_the_tenant_if_there_are_several(cli: Cli) -> None:
    ran = await cli("scheduled", "cancel", "O-1")
    assert (ran.code, "name one with --tenant" in ran.err) == (2, True)
