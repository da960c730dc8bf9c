"""`lastmile audit`: the table, the exit code for scripts, and the repair of safe violations."""

import getpass

import asyncpg

from tests.support.commands import Book, Cli, lines


async def test_audit_repair_repairs_what_is_safe_and_lists_the_rest(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order(1), book.order(2)))
    ran = await cli("audit")
    assert (ran.code, ran.out, ran.err) == (0, "No violation.\n", "")
    assert (await cli("audit", "--json")).out == ""

    await owner.execute("DELETE FROM radreply WHERE username = $1", f"{book.ref(1)}@acme.lastmile")
    await owner.execute("DELETE FROM billing_services WHERE created_by_order = 'O-2'")
    prefix = await owner.fetchval("SELECT prefix::text FROM delegations WHERE created_by_order = 'O-1'")
    ran = await cli("audit", "--tenant", "acme")
    assert ran.code == 1
    assert "2 violations found" in ran.out
    for words in (
        *("not_in_radius", prefix, f"active for {book.ref(1)}, but RADIUS does not assign it"),
        *("incomplete", book.ref(2), "deprovision the subscriber and provision it again", "acme"),
    ):
        assert words in " ".join(ran.out.split()), ran.out
    assert (await cli("audit", "--tenant", "other")).code == 0

    ran = await cli("audit", "--json")
    assert ran.code == 1
    assert [(v["invariant"], v["tenant"], v["subject"], v["repaired"]) for v in ran.json] == [
        ("not_in_radius", "acme", prefix, False),
        ("incomplete", "acme", book.ref(2), False),
    ]

    ran = await cli("audit", "--repair")
    assert ran.code == 1
    assert "1 violation repaired" in ran.out
    assert "1 violation left" in ran.out
    assert await owner.fetchval("SELECT count(*) FROM radreply WHERE value = $1", prefix) == 1
    entry = await owner.fetchrow("SELECT actor, record, action FROM audit_log ORDER BY id DESC LIMIT 1")
    assert tuple(entry) == (getpass.getuser(), "radreply", "created")

    await cli("deprovision", book.ref(2), "--tenant", "acme", "--reason", "as the audit said")
    assert (await cli("audit", "--repair")).out == "No violation.\n"

    await owner.execute("DELETE FROM radreply")
    ran = await cli("audit", "--repair", "--json")
    assert (ran.code, [v["repaired"] for v in ran.json]) == (0, [True])
    await owner.execute("DELETE FROM radreply")
    ran = await cli("audit", "--repair")
    assert (ran.code, "No violation is left." in ran.out) == (0, True)


async def test_acknowledge_finding_lists_it_apart_with_person_and_reason(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order(1), book.order(2)))
    await owner.execute("DELETE FROM billing_services")
    why = ("--why", "billed by the old system", "--by", "noc-7")

    ran = await cli("acknowledge", "incomplete", book.ref(1), *why)
    assert (ran.code, ran.err) == (0, "")
    assert f"Acknowledged: incomplete, acme, {book.ref(1)}" in ran.out
    assert "lastmile schedule trigger audit" in ran.out
    assert "Unchanged" in (await cli("acknowledge", "incomplete", book.ref(1), *why)).out

    ran = await cli("audit", "--json")
    known = {v["subject"]: v["acknowledged"] for v in ran.json}
    assert ran.code == 1, "another finding is left"
    assert known[book.ref(2)] is None
    assert (known[book.ref(1)]["by"], known[book.ref(1)]["why"]) == ("noc-7", "billed by the old system")

    ran = await cli("acknowledge", "incomplete", book.ref(2), *why, "--json")
    assert [(v["subject"], v["acknowledged"], v["changed"]) for v in ran.json] == [(book.ref(2), True, True)]
    ran = await cli("audit")
    assert ran.code == 0
    assert "No violation.\n" in ran.out
    assert "2 violations acknowledged" in ran.out
    for words in ("noc-7", "billed by the old system", book.ref(1)):
        assert words in ran.out
    history = (await cli("history", book.ref(1), "--tenant", "acme")).out
    assert f"acknowledgement of {book.ref(1)}" in history
    assert "incomplete: billed by the old system" in history

    ran = await cli("acknowledge", "incomplete", book.ref(1), *why, "--withdraw")
    assert f"Withdrawn: incomplete, acme, {book.ref(1)}" in ran.out
    assert (await cli("audit")).code == 1


async def test_acknowledge_without_a_finding_is_refused(cli: Cli) -> None:
    for arguments, code, words in (
        (("incomplete", "S-1", "--why", "x"), 1, "no finding incomplete about S-1"),
        (("unheard_of", "S-1", "--why", "x"), 2, "There is no invariant 'unheard_of'. Invariants: overlap,"),
        (("incomplete", "S-1", "--why", "x", "--tenant", "nobody"), 2, "There is no tenant 'nobody'"),
        (("incomplete", "S-1", "--why", ""), 2, "--why: must not be empty"),
    ):
        ran = await cli("acknowledge", *arguments)
        assert (ran.code, words in ran.err) == (code, True), ran.err


async def test_audit_lists_a_session_whose_end_is_not_confirmed(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order(1)))
    prefix = await owner.fetchval("SELECT prefix::text FROM delegations")
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
        " VALUES ('4F0C-01', '1', $1, '192.0.2.7', now())",
        f"{book.ref(1)}@acme.lastmile",
    )
    await cli("deprovision", book.ref(1), "--tenant", "acme", "--reason", "moved away")

    ran = await cli("audit")
    words = " ".join(ran.out.split())
    assert (ran.code, "No violation." in words) == (0, True)
    assert "1 released whose session end no NAS confirmed" in words
    assert "4F0C-01" in words
    assert "192.0.2.7" in words
    ran = await cli("audit", "--json")
    assert [(v["invariant"], v["subject"], v["notice"]) for v in ran.json] == [("unconfirmed_session", prefix, True)]
    assert (await cli("audit", "--tenant", "other", "--json")).out == ""


async def test_audit_without_a_database_is_unavailable(cli: Cli, alone: Cli) -> None:
    ran = await cli("audit", "--tenant", "nobody")
    assert (ran.code, "There is no tenant 'nobody'" in ran.err) == (2, True)
    ran = await alone("audit")
    assert (ran.code, "DATABASE_URL is not set" in ran.err) == (3, True)


async def test_help_explains_the_exit_codes(alone: Cli) -> None:
    assert "the audit found a violation" in " ".join((await alone("audit", "--help")).out.split())
