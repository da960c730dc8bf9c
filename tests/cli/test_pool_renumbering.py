"""The renumbering of a pool, from the command line."""

from datetime import timedelta

import asyncpg
import pytest

from tests.support.commands import POOL, Book, Cli, interrupted, lines, until
from workflows.maintenance import pool_renumbering

RATE = ("--rate", "36000/h", "--overlap-hours", "0")


async def test_renumbering_is_planned_started_paused_watched_and_ended(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_renumbering, "LOOK", timedelta(milliseconds=50))
    await cli("provision", "-", stdin=lines(*(book.order(nth) for nth in (1, 2))))
    await cli("pool", "add", "new", "2001:db8:300::/40", *POOL)
    ran = await cli("renumber-pool", "home", "--to", "new", "--rate", "1/h")
    assert (ran.code, ran.err) == (
        2,
        "Pool home cannot be renumbered to pool new:\n"
        "  pool home still assigns prefixes: close it with `lastmile pool close home` first\n",
    )
    await cli("pool", "close", "home")
    assert "Pool home is not being renumbered." in (await cli("renumbering", "show", "home")).err

    window = ("--window", "02:00-05:00", "--time-zone", "Europe/Berlin")
    ran = await cli("renumber-pool", "home", "--to", "new", "--rate", "1/h", *window, "--dry-run")
    assert ran.out == (
        "Nothing was started. Pool home: 2 to renumber. Pool new has 65,536 free prefixes. At 1/h in the window "
        "02:00-05:00 Europe/Berlin the orders start within 1 day.\n"
    )
    ran = await cli("renumber-pool", "home", "--to", "new", "--rate", "1/h", "--dry-run", "--json")
    assert (ran.json[0]["lines"], ran.json[0]["window"], ran.json[0]["days"]) == ({"to_renumber": 2}, None, 1)

    ran = await cli("renumber-pool", "home", "--to", "new", "--rate", "1/h", "--overlap-hours", "0")
    assert ran.out == (
        "The renumbering of pool home to pool new has started: 2 to renumber. "
        "`lastmile renumbering watch home` follows it.\n"
    )
    ran = await cli("renumber-pool", "home", "--to", "new", "--rate", "1/h")
    assert (ran.code, "A renumbering of pool home is running" in ran.err) == (1, True)
    watching = await cli.start("renumbering", "watch", "home")
    await until(watching.stderr, "1 renumbered")
    ran = await interrupted(watching)
    assert (ran.code, "continues in Temporal, as workflow" in ran.err) == (130, True)
    ran = await cli("renumbering", "pause", "home", "--why", "a fault", "--by", "noc-7", "--json")
    assert ran.json == [{"pool": "home", "decision": "pause", "done": "paused by noc-7: a fault"}]
    (shown,) = (await cli("renumbering", "show", "home", "--json")).json
    assert (shown["status"], shown["words"], shown["renumbered"]) == ("paused", "paused by noc-7: a fault", 1)
    assert "paused by noc-7: a fault" in (await cli("renumbering", "show", "home")).out
    ran = await cli("renumbering", "resume", "home", "--why", "repaired", "--by", "noc-7")
    assert ran.out == "The renumbering of pool home is resumed by noc-7: repaired.\n"
    ran = await cli("renumbering", "stop", "home", "--why", "too slow", "--by", "noc-7")
    assert ran.out == "The renumbering of pool home is stopped by noc-7: too slow.\n"
    ran = await cli("renumbering", "watch", "home", "--json")
    assert (ran.code, ran.json[0]["status"], ran.json[0]["left"]) == (1, "stopped", {"to_renumber": 1})
    ran = await cli("renumbering", "pause", "home", "--why", "x", "--by", "noc-7")
    assert (ran.code, ran.err) == (1, "No renumbering of pool home is running.\n")

    await cli("renumber-pool", "home", "--to", "new", *RATE)
    ran = await cli("renumbering", "watch", "home")
    assert (ran.code, "no line is left" in ran.out) == (0, True)
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL AND pool_id > 4") == 2


async def test_renumbering_with_options_that_cannot_be_read_is_refused_with_the_rule(cli: Cli) -> None:
    for options, message in (
        (("--rate", "200"), "must be lines per hour, from 1/h to 999999/h, as in 200/h, and is '200'"),
        (("--rate", "0/h"), "must be lines per hour"),
        ((*RATE, "--window", "2-5"), "--window: must be two times of day, as in 02:00-05:00, and is '2-5'."),
        ((*RATE, "--window", "02:00-05:00", "--time-zone", "Mars"), "--time-zone: 'Mars' is not a time zone"),
        (("--rate", "1/h", "--overlap-hours", "721"), "--overlap-hours: must be from 0 to 720, and is 721."),
        ((*RATE, "--max-failed", "101"), "--max-failed: must be from 0 to 100, and is 101."),
    ):
        ran = await cli("renumber-pool", "home", "--to", "business", *options)
        assert (ran.code, message in ran.err.replace("│", "")) == (2, True), ran.err
    ran = await cli("renumber-pool", "home", "--to", "nowhere", *RATE)
    assert (ran.code, "There is no pool nowhere that serves tenant acme" in ran.err) == (1, True)
