"""`lastmile history`: the changes of a subscriber, and the holders of a prefix at a time."""

import getpass
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.commands import POOL, Book, Cli, lines


def delegated(entries: list[dict[str, Any]]) -> str:
    return next(str(entry["key"]) for entry in entries if entry["record"] == "delegations")


async def test_history_of_a_subscriber_lists_changes_in_order(cli: Cli, book: Book, worker: None) -> None:
    await cli("provision", "-", stdin=lines(book.order(requested_by="crm")))
    await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away", "--order-id", "D-1")
    asked = ("history", book.ref(), "--tenant", "acme")

    entries = (await cli(*asked, "--json")).json
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    assert {entry["actor"] for entry in entries if entry["order_id"] == "O-1"} == {"crm"}
    # An order without `requested_by` gets the user of the command.
    assert {entry["actor"] for entry in entries if entry["order_id"] == "D-1"} == {getpass.getuser()}
    assert {entry["record"] for entry in entries} >= {"subscribers", "delegations", "radcheck", "billing_services"}
    ran = await cli(*asked)
    assert ran.code == 0
    shown = " ".join(ran.out.split())
    assert "state active → revoking" in shown
    assert "status active → suspended" in shown
    assert f"RADIUS reply created Delegated-IPv6-Prefix {delegated(entries)}" in shown

    first = entries[0]["at"]
    down = next(entry["at"] for entry in entries if entry["order_id"] == "D-1")
    assert (await cli(*asked, "--since", first, "--json")).json == entries
    since = (await cli(*asked, "--since", down, "--json")).json
    assert {entry["order_id"] for entry in since} == {"D-1"}


async def test_history_of_a_prefix_lists_its_holders(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order(requested_by="crm")))
    (status,) = (await cli("status", book.ref(), "--tenant", "acme", "--json")).json
    prefix = status["addresses"][0]["prefix"]
    await owner.execute("UPDATE delegation_events SET at = '2026-05-01 00:00+00'")
    await owner.execute(
        "INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref, from_state, to_state,"
        " order_id, reason, at) SELECT tenant_id, delegation_id, prefix, subscriber_ref, 'revoking', 'revoked', 'D-1',"
        " 'ordered', '2026-05-03 14:00+00' FROM delegation_events LIMIT 1"
    )
    asked = ("history", prefix)
    (tenure,) = (await cli(*asked, "--json")).json
    assert tenure == {
        "tenant": "acme",
        "subscriber_ref": book.ref(),
        "prefix": prefix,
        "vrf": "",
        "since": "2026-05-01T00:00:00+00:00",
        "until": "2026-05-03T14:00:00+00:00",
        "order_id": "O-1",
        "requested_by": "crm",
    }
    shown = " ".join((await cli(*asked)).out.split())
    assert f"{book.ref()} acme {prefix} 2026-05-01 00:00:00 UTC 2026-05-03 14:00:00 UTC O-1 crm" in shown
    # Without an offset a time is in UTC.
    for moment, had in {
        "2026-05-03T13:59": True,
        "2026-05-03T14:00": False,
        "2026-05-03T15:59+02:00": True,
        "2026-05-01": True,
        "2026-04-30T23:59:59Z": False,
    }.items():
        ran = await cli(*asked, "--at", moment)
        assert (ran.code, book.ref() in ran.out) == (0 if had else 1, had), moment
    ran = await cli(*asked, "--at", "2026-05-04")
    assert ran.err.startswith(f"No subscriber had {prefix}, or a part of it at 2026-05-04 00:00:00 UTC")
    assert (await cli("history", prefix.replace("/56", "1"), "--json")).json == [tenure]
    assert (await cli(*asked, "--since", "2026-05-03")).code == 0
    assert (await cli(*asked, "--since", "2026-05-04")).code == 1
    assert (await cli(*asked, "--tenant", "other")).code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("S-1", "--tenant", "acme", "--since", "yesterday"),
            2,
            "--since: must be a time in ISO 8601 in the years 2000 to 2099, in UTC or with its zone, as in "
            "2026-05-03T14:00 or 2026-05-03T14:00+02:00, and is 'yesterday'.",
        ),
        (("2001:db8::/56", "--at", "3 May"), 2, "--at: must be a time in ISO 8601"),
        (("2001:db8::/56", "--at", "20260503"), 2, "and is '20260503'"),
        (("S-1", "--tenant", "acme", "--since", "0001-01-01T00:00+14:00"), 2, "in the years 2000 to 2099"),
        (("S-1", "--tenant", "acme", "--at", "2026-05-03"), 2, "S-1 is a subscriber: use --since"),
        (("2001:db8::/56", "--at", "2026-05-03", "--since", "2026-05-03"), 2, "Use --at or --since, not both"),
        (("2001:db8::1/56",), 2, "'2001:db8::1/56' has host bits set: did you mean 2001:db8::/56?"),
        (("2001:db8::/129",), 2, "'2001:db8::/129' is not a prefix, an address or a subscriber's reference: write"),
        (("2001:db8:::1",), 2, "'2001:db8:::1' is not a prefix, an address or a subscriber's reference: write"),
        (("fe80::1%eth0",), 2, "has a zone"),
        (("S-1",), 2, "name one with --tenant (acme, other)"),
        (("2001:db8::/56", "--tenant", "nobody"), 2, "There is no tenant 'nobody'"),
        (("nobody", "--tenant", "acme"), 1, "No history of subscriber nobody of tenant acme: check the reference"),
        (("192.0.2.1",), 1, "No subscriber had 192.0.2.1"),
    ],
)
async def test_history_with_an_invalid_question_is_refused(
    cli: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = await cli("history", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert "Traceback" not in ran.err


async def test_changes_by_the_command_name_its_user(fresh: Cli, owner: asyncpg.Connection, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not-for-eyes")
    await fresh("tenant", "add", "acme", "--name", "Acme")
    await fresh("pool", "add", "home", "2001:db8::/40", *POOL)
    await fresh("nas", "add", "192.0.2.1", "--name", "bng-1", "--secret-file", str(tmp_path / "secret"))
    entries = await owner.fetch("SELECT record, key, actor, after FROM audit_log ORDER BY id")
    me = getpass.getuser()
    assert [tuple(entry)[:3] for entry in entries] == [
        ("tenants", "acme", me),
        ("pools", "home", me),
        ("nas", "192.0.2.1", me),
    ]
    assert json.loads(entries[2]["after"])["secret"] == "secret"


async def test_purge_deletes_history_older_than_the_setting(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    events = await owner.fetchval("SELECT count(*) FROM delegation_events")
    await owner.execute("UPDATE audit_log SET at = at - interval '366 days' WHERE record = 'radreply'")
    old = await owner.fetchval("SELECT count(*) FROM audit_log WHERE record = 'radreply'")
    ran = await cli.but(LASTMILE_AUDIT_DAYS="367")("purge", "--json")
    assert ran.json == [{"audit_days": 367, "audit_log_entries": 0, "delegation_events": 0}]
    ran = await cli("purge")
    words = f"Purged what is older than 365 days (LASTMILE_AUDIT_DAYS): {old} entries of the audit log, 0 events"
    assert (ran.code, words in " ".join(ran.out.split())) == (0, True)
    assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE record = 'radreply'") == 0
    assert await owner.fetchval("SELECT count(*) FROM delegation_events") == events
    ran = await cli.but(LASTMILE_AUDIT_DAYS="0")("purge")
    assert (ran.code, "LASTMILE_AUDIT_DAYS: " in ran.err) == (2, True)
