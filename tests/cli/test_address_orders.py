"""`lastmile renumber` and `lastmile change-addressing`: their dry runs, their orders and their mistakes."""

import pytest

from tests.support.commands import Book, Cli, lines

ACME = ("--tenant", "acme")

pytestmark = pytest.mark.usefixtures("database", "worker")


async def test_dry_run_of_a_renumbering_names_both_prefixes_and_changes_nothing(cli: Cli, book: Book) -> None:
    await cli("provision", "-", stdin=lines(book.order()))

    (plan,) = (await cli("renumber", book.ref(), *ACME, "--overlap-hours", "4", "--dry-run", "--json")).json

    assert plan["would"] == "be_carried_out"
    assert [(step["step"], step["action"], step["detail"]) for step in plan["steps"][1:]] == [
        ("begin_replacement", "change", "2001:db8::/56 is to be replaced"),
        ("allocate_replacement", "create", "ipv6_prefix 2001:db8:0:100::/56"),
        ("switch_addresses", "change", "RADIUS reply items: 2001:db8:0:100::/56"),
        ("release_replaced_addresses", "remove", "2001:db8::/56, 4 hours after the switch"),
    ]
    (status,) = (await cli("status", book.ref(), *ACME, "--json")).json
    assert [one["prefix"] for one in status["addresses"]] == ["2001:db8::/56"]


async def test_renumber_and_change_addressing_are_carried_out(cli: Cli, book: Book) -> None:
    await cli("provision", "-", stdin=lines(book.order()))

    (renumbered,) = (await cli("renumber", book.ref(), *ACME, "--overlap-hours", "0", "--json")).json
    file = lines(
        {
            "operation": "change_addressing",
            "tenant": "acme",
            "order_id": "A-1",
            "subscriber_ref": book.ref(),
            "addressing": {"ipv6_mode": "dual_stack", "ipv4_mode": "static"},
        }
    )
    await cli("provision", "-", stdin=file)
    changed = await cli(
        "change-addressing", book.ref(), *ACME, "--ipv6-mode", "none", "--ipv4-mode", "static", "--dry-run"
    )

    assert renumbered["status"] == "completed"
    (status,) = (await cli("status", book.ref(), *ACME, "--json")).json
    assert [one["prefix"] for one in status["addresses"]] == ["2001:db8:0:100::/56", "198.51.100.1"]
    assert "2001:db8:0:100::/56 is to be replaced" in changed.out


async def test_mistakes_name_the_option(cli: Cli, book: Book) -> None:
    ran = await cli("renumber", book.ref(), "--purpose", "ipv5", "--overlap-hours", "721")
    assert ran.code == 2
    assert "--purpose: must be 'ipv6_pd', 'ipv6_framed', 'ipv6_address' or 'ipv4'" in ran.err
    assert "--overlap-hours: must be at most 720, and is 721" in ran.err
    ran = await cli("change-addressing", book.ref(), "--ipv6-pd-size", "80")
    assert "--ipv6-pd-size: must be at most 64, and is 80" in ran.err
