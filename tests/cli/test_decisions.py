"""A parked run is released from the command line, with who and why; where nothing is parked, that is said."""

import pytest

from tests.support.commands import Book, Cli, lines, until
from tests.support.faults import Faults, Gate, refused
from tests.support.workers import Working

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tenant() -> tuple[str, ...]:
    return ("--tenant", "acme")


async def parked(cli: Cli, book: Book) -> None:
    """Until the subscriber's run waits for a person."""
    while "WAITS FOR AN OPERATOR" not in (await cli("status", book.ref(), "--tenant", "acme")).out:
        pass


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
    gate = faults.before["create_customer"] = Gate()
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
    cli: Cli, book: Book, working: Working, tenant: tuple[str, ...]
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
