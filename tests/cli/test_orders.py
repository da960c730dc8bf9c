"""Orders in, results out: each with its true end, a sentence where it needs one, and an exit code."""

import asyncpg
import pytest

from tests.support.commands import Book, Cli, interrupted, lines, until
from tests.support.faults import Faults, refused
from tests.support.workers import RunningWorker

pytestmark = pytest.mark.usefixtures("database")


async def test_provision_of_a_file_twice_gives_the_same_results(cli: Cli, book: Book, worker: None) -> None:
    file = lines(book.order(1), book.order(2, addressing={"enable_ipv6": False}))
    first = await cli("provision", "-", "--json", stdin=file)
    assert first.code == 0
    results = {result["order_id"]: result for result in first.json}
    assert {id: result["status"] for id, result in results.items()} == {"O-1": "completed", "O-2": "completed"}
    assert results["O-1"]["created"]["ipv6_prefix"].endswith("/56")
    again = await cli("provision", "-", "--json", stdin=file)
    assert {result["order_id"]: result for result in again.json} == results
    shown = await cli("provision", "-", stdin=file)
    assert shown.code == 0
    assert results["O-1"]["created"]["ipv6_prefix"] in shown.out
    assert [line.split()[:3] for line in shown.out.splitlines()[2:4]] == [
        ["O-1", book.ref(1), "completed"],
        ["O-2", book.ref(2), "completed"],
    ]


async def test_provision_with_one_field_changed_is_refused(cli: Cli, book: Book, worker: None) -> None:
    assert (await cli("provision", "-", stdin=lines(book.order()))).code == 0
    ran = await cli("provision", "-", "--json", stdin=lines(book.order(customer={"ref": "C-1", "name": "Eve"})))
    assert ran.code == 1
    assert ran.json[0]["status"] == "refused"
    assert ran.json[0]["order_id"] == "O-1"
    assert "Use a new id" in ran.json[0]["reason"]


async def test_provision_of_two_orders_of_one_subscriber_runs_one_at_a_time(cli: Cli, book: Book, worker: None) -> None:
    file = lines(book.order(1), book.order(1, order_id="O-2"))
    ran = await cli("provision", "-", "--json", stdin=file)
    assert (ran.code, [result["order_id"] for result in ran.json]) == (0, ["O-1", "O-2"])
    assert ran.json[0]["created"]["ipv6_prefix"] == ran.json[1]["created"]["ipv6_prefix"]


async def test_provision_of_more_orders_than_prefixes_is_refused_as_planned(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    file = lines(*(book.order(nth, tenant="other") for nth in (1, 2, 3)))
    plan = await cli("provision", "-", "--dry-run", "--json", stdin=file)
    assert plan.code == 1
    assert [one["would"] for one in plan.json] == ["be_carried_out", "be_carried_out", "be_refused"]
    refused = plan.json[2]["steps"][-1]
    assert (refused["step"], refused["action"]) == ("allocate_ip_address", "refuse")
    assert "Cannot allocate a /56 from pool tiny (2001:db8:200::/55)" in refused["detail"]
    for table in ("orders", "customers", "delegations", "radcheck", "slots"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0

    ran = await cli("provision", "-", "--json", stdin=file)
    assert ran.code == 1
    assert sorted(result["status"] for result in ran.json) == ["completed", "completed", "rolled_back"]
    (rolled_back,) = (result for result in ran.json if result["status"] == "rolled_back")
    assert "Cannot allocate a /56 from pool tiny" in rolled_back["reason"]


async def test_dry_run_tells_create_from_reuse_and_refuse(cli: Cli, book: Book, worker: None) -> None:
    await cli("provision", "-", stdin=lines(book.order(1)))
    line = {"connection_type": "ftth", "onu_serial": "ACME00000001"}
    plan = await cli(
        *("provision", "-", "--dry-run", "--json"),
        stdin=lines(
            book.order(1),
            book.order(1, order_id="O-11"),
            book.order(2),
            book.order(3, line=line),
            book.order(4, tenant="nobody"),
            book.order(2),
        ),
    )
    assert plan.code == 1
    same, reuse, create, taken, unknown, twice = plan.json
    assert "completed on" in same["steps"][0]["detail"]
    assert {step["action"] for step in reuse["steps"]} == {"reuse", "create"}
    assert [step["step"] for step in reuse["steps"] if step["action"] == "create"] == ["activate_ipv6_lifecycle"]
    assert "customer C-1, since order O-1" in reuse["steps"][0]["detail"]
    assert [step["action"] for step in create["steps"]] == ["reuse"] + ["create"] * 8
    assert f"ONU ACME00000001 already belongs to subscriber {book.ref(1)}'s line" in taken["steps"][-1]["detail"]
    assert "Tenant nobody does not exist" in unknown["steps"][-1]["detail"]
    assert twice["steps"] == [{"step": "open_order", "action": "reuse", "detail": "the same order as on line 3"}]
    shown = await cli("provision", "-", "--dry-run", stdin=lines(book.order(1), book.order(2)))
    assert "Nothing was started. 2 of 2 orders would be carried out." in shown.out
    changed = await cli("provision", "-", "--dry-run", stdin=lines(book.order(1, addressing={"enable_ipv6": False})))
    assert (changed.code, "Use a new id" in changed.out) == (1, True)


async def test_provision_of_another_line_than_is_in_service_is_refused_as_the_dry_run_says(
    cli: Cli, book: Book, worker: None
) -> None:
    await cli("provision", "-", stdin=lines(book.order(1)))
    customer = book.order(1)["customer"] | {"name": "Somebody Else"}
    other = book.order(1, order_id="O-11", addressing={"enable_ipv6": False}, customer=customer)

    plan = await cli("provision", "-", "--dry-run", "--json", stdin=lines(other))
    ran = await cli("provision", "-", "--json", stdin=lines(other))

    assert (plan.code, plan.json[0]["would"], ran.code, ran.json[0]["status"]) == (1, "be_refused", 1, "refused")
    (step,) = plan.json[0]["steps"]
    assert (step["step"], step["detail"]) == ("open_order", ran.json[0]["reason"])
    for field in ("customer.name", "addressing.enable_ipv6"):
        assert f"{field}: the " in step["detail"]


async def test_provision_for_a_known_customer_says_that_the_name_is_another(cli: Cli, book: Book, worker: None) -> None:
    await cli("provision", "-", stdin=lines(book.order(1)))
    order = book.order(2, customer=book.order(1)["customer"] | {"name": "Somebody Else"})
    note = "customer.name: customer C-1 exists with another name, which the order did not change"

    plan = await cli("provision", "-", "--dry-run", "--json", stdin=lines(order))
    ran = await cli("provision", "-", stdin=lines(order))

    assert note in plan.json[0]["steps"][0]["detail"]
    assert (ran.code, note in " ".join(ran.out.split())) == (0, True)


async def test_provision_again_after_a_deprovision_says_that_the_result_is_old(
    cli: Cli, book: Book, worker: None
) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away", "--order-id", "D-1")

    ran = await cli("provision", "-", "--json", stdin=lines(book.order()))
    shown = await cli("provision", "-", stdin=lines(book.order()))
    plan = await cli("provision", "-", "--dry-run", stdin=lines(book.order()))

    words = "this result is older than deprovision order D-1 (completed"
    assert ran.json[0]["outdated"].startswith(words)
    assert words in " ".join(shown.out.split())
    assert words in " ".join(plan.out.split())


async def test_deprovision_twice_gives_the_same_result(cli: Cli, book: Book, worker: None) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    down = ("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away")
    ran = await cli(*down, "--order-id", "D-1", "--json")
    assert (ran.code, ran.json[0]["order_id"], ran.json[0]["status"]) == (0, "D-1", "completed")
    assert (await cli(*down, "--order-id", "D-1", "--json")).json == ran.json
    ran = await cli(*down)
    assert ran.code == 1
    assert ran.out.startswith("Order deprovision-")
    assert "was deprovisioned on" in ran.out


async def test_deprovision_and_cancel_of_an_unknown_subscriber_fail(cli: Cli, book: Book, worker: None) -> None:
    ran = await cli("deprovision", "nobody", "--tenant", "acme", "--reason", "moved away", "--json")
    assert (ran.code, "Subscriber nobody does not exist" in ran.json[0]["reason"]) == (1, True)
    ran = await cli("cancel", book.ref(), "--tenant", "acme")
    assert (ran.code, ran.err) == (1, f"No order of subscriber {book.ref()} is running: there is nothing to cancel.\n")
    await cli("provision", "-", stdin=lines(book.order()))
    assert (await cli("cancel", book.ref(), "--tenant", "acme")).err == ran.err


async def test_provision_without_a_worker_waits_and_survives_an_interrupt(
    cli: Cli, book: Book, working: RunningWorker
) -> None:
    file = lines(book.order())
    waiting = await cli.start("provision", "-")
    assert waiting.stdin
    waiting.stdin.write(file.encode())
    waiting.stdin.write_eof()
    await until(waiting.stderr, "No worker polls task queue")
    while (shown := await cli("status", book.ref(), "--tenant", "acme")).code:
        pass
    assert shown.out.startswith("Provision order O-1 has been started and waits. No worker polls")
    ran = await interrupted(waiting)
    assert ran.code == 130
    assert f"1 started and continue in Temporal ({book.ref()}): `lastmile status SUBSCRIBER`" in ran.err
    ran = await cli("provision", "-", stdin=lines(book.order(1, order_id="O-2")))
    assert (ran.code, "already running, for order O-1" in ran.out) == (1, True)
    async with working:
        assert (await cli("provision", "-", "--json", stdin=file)).json[0]["status"] == "completed"


async def test_cancel_rolls_the_order_back(cli: Cli, book: Book, working: RunningWorker) -> None:
    file = lines(book.order())
    waiting = await cli.start("provision", "-", "--json")
    assert waiting.stdin
    waiting.stdin.write(file.encode())
    waiting.stdin.write_eof()
    await until(waiting.stderr, "No worker polls task queue")
    while (await cli("cancel", book.ref(), "--tenant", "acme")).code:
        pass
    async with working:
        out, _ = await waiting.communicate()
    assert waiting.returncode == 1
    assert b'"status": "rolled_back"' in out
    assert b'"reason": "cancelled"' in out


async def test_provision_of_an_order_that_parks_says_once_how_to_decide(
    cli: Cli, book: Book, worker: None, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    waiting = await cli.start("provision", "-")
    assert waiting.stdin
    waiting.stdin.write(lines(book.order()).encode())
    waiting.stdin.write_eof()
    words = (
        "Order O-1 waits for an operator: undo of allocate_ip_address failed: refused by the test. Decide with "
        f"`lastmile retry|skip|abandon {book.ref()} --tenant acme --why REASON`; `lastmile attention` lists all such "
        "orders."
    )
    await until(waiting.stderr, words)
    faults.before.clear()
    assert (await cli("retry", book.ref(), "--tenant", "acme", "--why", "repaired")).code == 0
    out, err = await waiting.communicate()
    assert (waiting.returncode, b"rolled back" in out) == (1, True)
    assert b"waits for an operator" not in err


async def test_deprovision_with_a_date_ahead_is_held_and_not_started(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    later = f"D-{book.mark}"
    await cli("provision", "-", stdin=lines(book.order()))
    down = ("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away", "--order-id", later)
    ran = await cli(*down, "--not-before", "2099-05-03T14:00:00+02:00", "--json")
    assert ran.code == 0
    (held,) = ran.json
    assert (held["status"], held["operation"]) == ("scheduled", "deprovision")
    assert (held["schedule"], held["at"]) == (f"order/acme/{later}", "2099-05-03T12:00:00+00:00")
    assert await owner.fetchval("SELECT count(*) FROM orders WHERE operation = 'deprovision'") == 0
    assert await owner.fetchval("SELECT count(*) FROM subscribers WHERE archived_at IS NULL") == 1
    assert (await cli("scheduled", "cancel", later, "--tenant", "acme")).code == 0


@pytest.mark.parametrize("time", ["tomorrow", "2099-05-03", "2099-05-03T14:00:00", "47000", "2100-01-01T00:00:00Z"])
async def test_deprovision_with_a_date_that_is_not_clear_is_refused(cli: Cli, book: Book, time: str) -> None:
    ran = await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved", "--not-before", time)
    assert (ran.code, ran.out) == (2, "")
    assert "  --not-before: must be a time in " in ran.err
