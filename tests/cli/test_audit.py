"""Whether the promises are kept: a table for people, exit code 1 for scripts, and the repair of what is safe."""

import getpass

import asyncpg

from tests.cli.conftest import Book, Cli, lines


async def test_a_broken_promise_is_named_and_repaired(
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
        *("not_in_radius", prefix, f"active for {book.ref(1)}, and RADIUS does not hand it out"),
        *("incomplete", book.ref(2), "deprovision the subscriber and provision it anew", "acme"),
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
    entry = await owner.fetchrow("SELECT actor, record, action FROM trail ORDER BY id DESC LIMIT 1")
    assert tuple(entry) == (getpass.getuser(), "radreply", "created")

    await cli("deprovision", book.ref(2), "--tenant", "acme", "--reason", "as the audit said")
    assert (await cli("audit", "--repair")).out == "No violation.\n"

    await owner.execute("DELETE FROM radreply")
    ran = await cli("audit", "--repair", "--json")
    assert (ran.code, [v["repaired"] for v in ran.json]) == (0, [True])
    await owner.execute("DELETE FROM radreply")
    ran = await cli("audit", "--repair")
    assert (ran.code, "No violation is left." in ran.out) == (0, True)


async def test_where_there_is_nothing_to_ask(cli: Cli, alone: Cli) -> None:
    ran = await cli("audit", "--tenant", "nobody")
    assert (ran.code, "There is no tenant 'nobody'" in ran.err) == (2, True)
    ran = await alone("audit")
    assert (ran.code, "DATABASE_URL is not set" in ran.err) == (3, True)


async def test_the_exit_codes_are_told(alone: Cli) -> None:
    assert "the audit found a violation" in " ".join((await alone("audit", "--help")).out.split())
