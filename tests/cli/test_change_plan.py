"""`lastmile change-plan`, and the same order in a file."""

import pytest

from tests.support.commands import Book, Cli, lines

pytestmark = pytest.mark.usefixtures("database", "worker")

FAST = ("--plan", "giga", "--download", "1000000", "--upload", "500000", "--tenant", "acme")


async def test_change_plan_is_shown_first_and_then_made(cli: Cli, book: Book) -> None:
    await cli("provision", "-", stdin=lines(book.order()))

    plan = await cli("change-plan", book.ref(), *FAST, "--dry-run", "--json")
    assert [(step["step"], step["action"]) for step in plan.json[0]["steps"]] == [
        ("verify_line", "reuse"),
        ("change_radius_plan", "change"),
        ("change_billing_plan", "change"),
    ]
    ran = await cli("change-plan", book.ref(), *FAST, "--json")
    assert (ran.code, ran.json[0]["status"]) == (0, "completed")
    again = await cli("change-plan", book.ref(), *FAST, "--dry-run")
    assert "the line has plan giga-1000000-500000 already" in again.out


async def test_change_plan_with_a_mistake_names_the_option(cli: Cli, book: Book) -> None:
    ran = await cli("change-plan", book.ref(), *FAST, "--on-refusal", "maybe", "--upload", "0")
    assert ran.code == 2
    assert "--upload: must be at least 1, and is 0" in ran.err
    assert "--on-refusal: must be 'next_login' or 'disconnect', and is 'maybe'" in ran.err


async def test_file_with_a_change_of_plan_runs_it(cli: Cli, book: Book) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    order = {
        "operation": "change_plan",
        "tenant": "acme",
        "order_id": "P-1",
        "subscriber_ref": book.ref(),
        "plan": {"name": "giga", "download_kbps": 1_000_000, "upload_kbps": 500_000},
    }
    ran = await cli("provision", "-", "--json", stdin=lines(order))
    assert (ran.code, ran.json[0]["operation"], ran.json[0]["status"]) == (0, "change_plan", "completed")
