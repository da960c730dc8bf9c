"""Decisions on parked runs from the command line, with the operator's name and reason."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import Client

from lastmile.client import answer_time
from lastmile.client.orders import Lastmile
from lastmile.contract import Decision, ResultStatus, RunStatus
from lastmile.errors import UnavailableError
from lastmile.settings import Settings
from tests.support.commands import Book, Cli, lines, until
from tests.support.faults import Faults, Gate, alone, refused
from tests.support.orders import Orders
from tests.support.orders import parked as run_parked
from tests.support.workers import RunningWorker

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tenant() -> tuple[str, ...]:
    return ("--tenant", "acme")


async def parked(cli: Cli, book: Book) -> None:
    """Until the subscriber's run waits for a person."""
    while True:
        if "WAITS FOR AN OPERATOR" in (await cli("status", book.ref(), "--tenant", "acme")).out:
            return
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("command", "said", "status"),
    [
        ("retry", "retry_step", "rolled_back"),
        ("skip", "skip_step", "partly_rolled_back"),
        ("abandon", "abandon", "abandoned"),
    ],
)
async def test_decision_releases_a_parked_undo(
    cli: Cli, book: Book, worker: None, faults: Faults, tenant: tuple[str, ...], command: str, said: str, status: str
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    running = await cli.start("provision", "-", "--json")
    assert running.stdin
    running.stdin.write(lines(book.order()).encode())
    running.stdin.write_eof()
    await parked(cli, book)
    faults.before.clear()

    ran = await cli(command, book.ref(), *tenant, "--why", "no such step", "--step", "activate_onu")
    assert (ran.code, "The parked step is allocate_ip_address, not activate_onu" in ran.err) == (1, True)
    ran = await cli(command, book.ref(), *tenant, "--why", "ticket 4711", "--by", "noc-7")

    assert ran.code == 0
    assert ran.out.startswith(f"Provision order O-1: {said} of allocate_ip_address by noc-7.")
    out, _ = await running.communicate()
    assert f'"status": "{status}"' in out.decode()
    if command != "retry":
        assert f"allocate_ip_address: {said} by noc-7: ticket 4711" in out.decode()


async def test_decision_without_an_order_is_refused(
    cli: Cli, book: Book, worker: None, tenant: tuple[str, ...]
) -> None:
    ran = await cli("retry", book.ref(), *tenant, "--why", "ticket 4711")
    words = f"No order of subscriber {book.ref()} is running: there is nothing to decide.\n"
    assert (ran.code, ran.err) == (1, words)


async def test_decision_without_a_parked_step_is_refused(
    cli: Cli, book: Book, worker: None, faults: Faults, tenant: tuple[str, ...]
) -> None:
    gate = Gate()
    faults.before["create_customer"] = alone(gate)
    running = await cli.start("provision", "-", "--json")
    assert running.stdin
    running.stdin.write(lines(book.order()).encode())
    running.stdin.write_eof()
    await gate.reached.wait()

    ran = await cli("skip", book.ref(), *tenant, "--why", "ticket 4711")

    words = f"Provision order O-1 of subscriber {book.ref()}: No step is parked: there is nothing to decide.\n"
    assert (ran.code, ran.err) == (1, words)
    gate.open()
    await running.communicate()


async def test_decision_without_a_worker_is_not_sent(
    cli: Cli, book: Book, working: RunningWorker, tenant: tuple[str, ...]
) -> None:
    running = await cli.start("provision", "-", "--json")
    assert running.stdin
    running.stdin.write(lines(book.order()).encode())
    running.stdin.write_eof()
    await until(running.stderr, "No worker polls task queue")
    while (await cli("status", book.ref(), *tenant)).code:
        pass

    ran = await cli("abandon", book.ref(), *tenant, "--why", "ticket 4711")

    assert (ran.code, "Provision order O-1 cannot take a decision now. No worker polls" in ran.err) == (3, True)
    async with working:
        out, _ = await running.communicate()
    assert '"status": "completed"' in out.decode()


async def test_decision_without_a_reason_is_refused(cli: Cli, tenant: tuple[str, ...]) -> None:
    ran = await cli("abandon", "S-1", *tenant, "--why", "")
    assert (ran.code, ran.err) == (2, "Invalid decision:\n  --why: must not be empty\n")
    assert (await cli("abandon", "S-1", *tenant)).code == 2


async def test_decision_with_a_worker_that_does_not_answer_ends_soon(
    cli: Cli,
    book: Book,
    working: RunningWorker,
    temporal_client: Client,
    settings: Settings,
    faults: Faults,
    tenant: tuple[str, ...],
) -> None:
    """Temporal lists a worker that has ended, or is frozen, among those that poll."""
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    lastmile = Lastmile(temporal_client, task_queue=settings.task_queue)
    word = ("--why", "ticket 4711")
    async with working:
        run = await lastmile.start(Orders(book.ref()).provision())
        await run_parked(run)
    while not (await cli.with_answer_time(seconds=0.1)("attention", "--json")).json:
        pass  # Temporal lists it after a moment

    soon = cli.with_answer_time(seconds=2)
    for command in (("retry", book.ref(), *tenant), ("attention", "--decide", "retry")):
        ran = await soon(*command, *word)
        assert (ran.code, ran.out) == (3, "")
        words = f"Subscriber {book.ref()}: no worker answers within 2 s. Nothing was sent."
        assert ran.err.startswith(words)

    assert "stands is not known: no worker answers within 2 s." in (await soon("status", book.ref(), *tenant)).out

    async with working:
        assert (await run_parked(run)).status is RunStatus.PARKED
        faults.before.clear()
        assert (await cli("retry", book.ref(), *tenant, *word)).code == 0
        assert (await run.result()).status is ResultStatus.ROLLED_BACK


async def test_decide_with_a_worker_that_ends_meanwhile_says_that_the_decision_was_sent(
    book: Book,
    working: RunningWorker,
    temporal_client: Client,
    settings: Settings,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_time, "ANSWER_TIME", timedelta(seconds=2))
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    lastmile = Lastmile(temporal_client, task_queue=settings.task_queue)
    async with working:
        run = await lastmile.start(Orders(book.ref()).provision())
        await run_parked(run)

    with pytest.raises(UnavailableError, match="The decision was sent, and no worker has answered within 2 s"):
        await lastmile.decide("acme", book.ref(), "abandon", Decision(by="noc-7", why="ticket 4711"))

    async with working:
        assert (await run.result()).status is ResultStatus.ABANDONED
