"""`lastmile status`: the facts for a call with a subscriber, pending decisions first."""

import asyncio
from base64 import b64encode
from datetime import timedelta

import asyncpg
from temporalio.exceptions import ApplicationError

from tests.support.commands import Book, Cli, interrupted, lines
from tests.support.faults import Faults, Gate, alone, refused


async def test_status_shows_all_records_of_a_subscriber(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    user = f"{book.ref()}@acme.lastmile"
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
        " VALUES ('s-1', 'u-1', $1, '192.0.2.1', now()), ('s-0', 'u-0', $1, '192.0.2.1', now())",
        user,
    )
    await owner.execute("UPDATE radacct SET acctstoptime = now() WHERE acctsessionid = 's-0'")
    asked = ("status", book.ref(), "--tenant", "acme")
    (status,) = (await cli(*asked, "--json")).json
    assert status["customer"]["name"] == "Ada Example"
    assert status["line"]["onu_serial"] == "ACME00000001"
    assert [(a["prefix"][-3:], a["state"]) for a in status["addresses"]] == [("/56", "active")]
    assert [session["session"] for session in status["sessions"]] == ["s-1"]
    assert [(service["plan"], service["status"]) for service in status["billing"]] == [("fiber", "active")]
    assert [event["to_state"] for event in status["history"]] == ["allocated", "active"]
    assert [(order["order_id"], order["status"]) for order in status["orders"]] == [("O-1", "completed")]
    assert (status["run"], status["run_unknown"]) == (None, "")

    password = await owner.fetchval("SELECT value FROM radcheck WHERE username = $1", user)
    shown = await cli(*asked)
    assert shown.code == 0
    for words in ("Ada Example (C-1)", status["addresses"][0]["prefix"], user, "s-1", "ACME00000001"):
        assert words in shown.out
    assert password not in shown.out
    assert password not in str(status)
    assert password in (await cli(*asked, "--show-password")).out
    (credentials,) = (await cli("credentials", book.ref(), "--tenant", "acme", "--json")).json
    assert (credentials["username"], credentials["password"]) == (user, password)
    assert password in (await cli("credentials", book.ref(), "--tenant", "acme")).out
    assert (
        await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'read' AND subscriber_ref = $1", book.ref())
        == 3
    )

    away = await cli.but(TEMPORAL_ADDRESS="127.0.0.1:1")(*asked)
    assert away.code == 0
    assert "Whether an order is running or scheduled is not known: No Temporal server answers" in away.out
    assert status["addresses"][0]["prefix"] in away.out


async def test_status_after_a_deprovision_shows_the_quarantine(cli: Cli, book: Book, worker: None) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away", "--order-id", "D-1")
    (status,) = (await cli("status", book.ref(), "--tenant", "acme", "--json")).json
    assert (status["addresses"], status["radius"], status["line"]) == ([], None, None)
    assert [resting["prefix"][-3:] for resting in status["quarantine"]] == ["/56"]
    shown = (await cli("status", book.ref(), "--tenant", "acme")).out
    assert "by order D-1" in shown
    assert "moved away" in shown
    assert "quarantine" in shown


async def test_status_of_an_unknown_subscriber_fails(cli: Cli, book: Book, worker: None) -> None:
    ran = await cli("status", "nobody", "--tenant", "acme")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Tenant acme has no subscriber nobody, and never had: check the reference.\n"
    ran = await cli.but(TEMPORAL_ADDRESS="127.0.0.1:1")("status", "nobody", "--tenant", "acme")
    assert (ran.code, "Whether an order is running or scheduled is not known" in ran.err) == (1, True)


async def test_status_of_a_running_order_shows_its_step(cli: Cli, book: Book, worker: None, faults: Faults) -> None:
    gate = Gate()
    faults.before["create_billing_service"] = alone(gate)
    ordering = asyncio.create_task(cli("provision", "-", stdin=lines(book.order())))
    await gate.reached.wait()
    shown = (await cli("status", book.ref(), "--tenant", "acme")).out
    gate.open()
    assert shown.startswith("Now running: provision, order O-1")
    (step,) = (line.split() for line in shown.splitlines() if "create_billing_service" in line)
    assert step == ["create_billing_service", "running"]
    assert (await ordering).code == 0


async def test_status_of_a_parked_order_shows_the_decision_first(
    cli: Cli, book: Book, worker: None, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    waiting = await cli.start("provision", "-")
    assert waiting.stdin
    waiting.stdin.write(lines(book.order()).encode())
    waiting.stdin.write_eof()
    asked = ("status", book.ref(), "--tenant", "acme", "--json")
    while not ((ran := await cli(*asked)).code == 0 and (ran.json[0]["run"] or {}).get("attention")):
        pass
    shown = (await cli(*asked[:-1])).out
    assert shown.startswith("WAITS FOR AN OPERATOR: undo of allocate_ip_address failed: refused by the test (since 2")
    words = " ".join(shown.split())
    assert f"Decide with `lastmile retry|skip|abandon {book.ref()} --tenant acme --why REASON`" in words
    assert "Now parked: provision, order O-1" in shown
    assert (await interrupted(waiting)).code == 130


async def test_status_of_a_subscriber_with_a_scheduled_order_shows_it(cli: Cli, book: Book, worker: None) -> None:
    later = f"L-{book.mark}"
    order = book.order(order_id=later, not_before="2099-05-03T14:00:00+02:00")
    assert (await cli("provision", "-", stdin=lines(order))).code == 0
    asked = ("status", book.ref(), "--tenant", "acme")
    while not ((ran := await cli(*asked, "--json")).code == 0 and ran.json[0]["scheduled"]):
        pass  # Temporal lists a new Schedule after a moment
    (status,) = ran.json
    assert (status["run"], status["run_unknown"]) == (None, "")
    (seen,) = status["scheduled"]
    assert (seen["order_id"], seen["operation"], seen["at"]) == (later, "provision", "2099-05-03T12:00:00+00:00")
    shown = (await cli(*asked)).out
    assert shown.startswith("Scheduled orders")
    (row,) = (line.split() for line in shown.splitlines() if later in line)
    assert row == ["2099-05-03", "12:00:00", "UTC", later, "provision", f"order/acme/{later}"]
    assert (await cli("scheduled", "cancel", later, "--tenant", "acme")).code == 0


async def test_status_of_a_waiting_order_names_the_reason(cli: Cli, book: Book, worker: None, faults: Faults) -> None:
    async def away() -> None:
        raise ApplicationError("no NetBox answers", type="Unreachable", next_retry_delay=timedelta(minutes=5))

    faults.before["allocate_ip_address"] = away
    sending = await cli.start("provision", "-")
    assert sending.stdin is not None
    sending.stdin.write(lines(book.order()).encode())
    sending.stdin.close()
    words = "Retrying allocate_ip_address (attempt 2): no NetBox answers"
    asked = ("status", book.ref(), "--tenant", "acme")
    while True:
        ran = await cli(*asked, "--json")
        if ran.code == 0 and ran.json[0]["run_waits"]:
            break
    assert (ran.json[0]["run_waits"], ran.json[0]["run"]["step"]) == (words, "allocate_ip_address")
    assert words in (await cli(*asked)).out
    await interrupted(sending)


async def test_status_and_list_show_what_can_be_read_during_a_key_rotation(cli: Cli, book: Book, worker: None) -> None:
    """Another subscriber's scheduled order has the new key, which this command does not have yet."""
    old, new = (f"{name}:{b64encode(bytes([number] * 32)).decode()}" for number, name in ((1, "k1"), (2, "k2")))
    assert (await cli("provision", "-", stdin=lines(book.order()))).code == 0
    mine, theirs = f"M-{book.mark}", f"T-{book.mark}"
    for key, order in ((old, book.order(order_id=mine)), (new, book.order(2, order_id=theirs))):
        held = lines(order | {"not_before": "2099-05-03T14:00:00+02:00"})
        assert (await cli.but(LASTMILE_ENCRYPTION_KEYS=key)("provision", "-", stdin=held)).code == 0
    partly = cli.but(LASTMILE_ENCRYPTION_KEYS=old)

    def own() -> dict[str, str]:  # Temporal may have Schedules of other tests
        return {one["order_id"]: one["subscriber_ref"] for one in listed.json if one["order_id"] in (mine, theirs)}

    listed = await partly("scheduled", "list", "--tenant", "acme", "--json")
    while len(own()) < 2:  # Temporal lists a new Schedule after a moment
        listed = await partly("scheduled", "list", "--tenant", "acme", "--json")
    words = f"Scheduled orders whose subscriber cannot be read: {theirs}. The payload is encrypted with key 'k2'"

    assert (listed.code, words in listed.err) == (2, True)
    assert own() == {mine: book.ref(), theirs: ""}
    (status,) = (await partly("status", book.ref(), "--tenant", "acme", "--json")).json
    assert [order["order_id"] for order in status["scheduled"]] == [mine]
    assert status["run_unknown"].startswith(words)
    assert (await partly("scheduled", "cancel", theirs, "--tenant", "acme")).code == 0
    assert (await partly("scheduled", "cancel", mine, "--tenant", "acme")).code == 0


async def test_status_and_history_say_why_and_until_when_a_line_is_suspended(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    of_line = (book.ref(), "--tenant", "acme")
    asked = ("suspend", *of_line, "--reason", "non-payment", "--mode", "walled_garden", "--order-id", "X-1")
    until = ("--until", "2030-06-01T08:00:00+02:00")

    rehearsed = await cli(*asked, *until, "--dry-run")
    assert rehearsed.code == 0
    assert await owner.fetchval("SELECT count(*) FROM suspensions") == 0
    assert (await cli(*asked, *until)).code == 0

    shown = " ".join((await cli("status", *of_line)).out.split())
    assert "for non-payment since" in shown
    assert "walled garden, until 2030-06-01 06:00:00 UTC, by order X-1" in shown
    assert "suspension" in (await cli("history", *of_line)).out

    assert (await cli("resume", *of_line, "--dry-run")).code == 0
    assert (await cli("resume", *of_line)).code == 0
    assert "for non-payment" not in (await cli("status", *of_line)).out
