"""The import of files of orders: rejects, repetitions and interruptions."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from lastmile.client.order_import.runs import CONCURRENCY
from lastmile.contract import workflow_id
from tests.support.commands import Book, Cli, lines, until
from tests.support.workers import RunningWorker

pytestmark = pytest.mark.usefixtures("database")


def rejects(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_import_with_invalid_lines_runs_the_valid_ones(
    cli: Cli, book: Book, worker: None, tmp_path: Path
) -> None:
    file, rejected = tmp_path / "orders.jsonl", tmp_path / "orders.rejects.jsonl"
    good, invalid, unknown_tenant = book.order(1), book.order(2, tenant="Acme"), book.order(3, tenant="nobody")
    pool = book.order(4, addressing={"ipv6_pool": "nowhere"})
    stolen = book.order(5, order_id="O-1")
    # The reused id is behind a line of the same subscriber, so it runs after the order that has the id.
    file.write_text(lines(good, invalid, unknown_tenant, pool, stolen | {"subscriber_ref": book.ref(1)}))
    rejected.write_text("of an earlier run")
    ran = await cli("provision", str(file), "--json")
    assert ran.code == 1
    results = {result.get("subscriber_ref"): result for result in ran.json if result["status"] != "refused"}
    assert results[book.ref(1)]["status"] == "completed"
    assert results[book.ref(4)]["status"] == "rolled_back"
    assert results[None] == {"line": 2, "status": "invalid", "reason": results[None]["reason"]}
    assert f"4 orders were rejected: fix them in {rejected}" in ran.err
    left = {order["subscriber_ref"]: order for order in rejects(rejected)}
    assert left[book.ref(2)]["_rejected"].startswith("tenant: must be lower-case")
    assert "Tenant nobody does not exist" in left[book.ref(3)]["_rejected"]
    assert left[book.ref(4)]["_rejected"].endswith("this order_id is spent, send it with another")
    assert "Use a new id" in left[book.ref(1)]["_rejected"]

    left[book.ref(2)]["tenant"] = left[book.ref(3)]["tenant"] = "acme"
    left[book.ref(4)] |= {"order_id": "O-44", "addressing": {}}
    left[book.ref(1)] |= {"order_id": "O-5", "subscriber_ref": book.ref(5)}
    rejected.write_text(lines(*left.values()))
    again = await cli("provision", str(rejected))
    assert (again.code, again.out.count("completed"), again.err) == (0, 4, "")
    assert not (tmp_path / "orders.rejects.rejects.jsonl").exists()
    file.write_text(lines(good))
    assert (await cli("provision", str(file))).code == 0
    assert not rejected.exists(), "nothing was rejected this time"


async def test_rejects_are_written_beside_the_file_or_where_the_option_says(
    cli: Cli, book: Book, tmp_path: Path
) -> None:
    file = lines(book.order(tenant="Acme"))
    ran = await cli("provision", "-", stdin=file)
    assert (ran.code, "invalid" in ran.out) == (2, True)
    assert "With --rejects FILE, the same orders again write them to a file" in ran.err
    await cli("provision", "-", "--rejects", str(tmp_path / "named"), stdin=file)
    assert len(rejects(tmp_path / "named")) == 1
    ran = await cli("provision", "-", "--rejects", str(tmp_path), stdin=file)
    assert f"and {tmp_path} cannot be written: Is a directory. Name another file with --rejects" in ran.err
    orders = tmp_path / "orders.jsonl"
    orders.write_text(file)
    ran = await cli("provision", str(orders), "--rejects", str(orders))
    assert (ran.code, ran.err) == (2, f"--rejects: {orders} is the file of orders itself.\n")
    assert orders.read_text() == file


async def test_import_of_ended_orders_prints_results_without_runs(
    cli: Cli, book: Book, working: RunningWorker, owner: asyncpg.Connection
) -> None:
    file = lines(book.order(1), book.order(2, addressing={"ipv6_pool": "nowhere"}))
    async with working:
        first = await cli("provision", "-", "--json", stdin=file)
        runs = await owner.fetch("SELECT order_id, run_id FROM orders ORDER BY order_id")
    # Nothing could be run any more.
    again = await cli("provision", "-", "--json", stdin=file)
    assert again.code == first.code == 1
    assert sorted(again.out.splitlines()) == sorted(first.out.splitlines())
    assert await owner.fetch("SELECT order_id, run_id FROM orders ORDER BY order_id") == runs


async def test_import_without_the_database_gets_results_from_temporal(cli: Cli, book: Book, worker: None) -> None:
    file = lines(book.order())
    first = await cli("provision", "-", "--json", stdin=file)
    away = await cli.but(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")("provision", "-", "--json", stdin=file)
    assert (away.code, away.json) == (0, first.json)
    assert away.err.startswith("The database postgresql://nobody@127.0.0.1:1/none cannot be used: ")
    assert "Orders that have ended already take a run each meanwhile." in away.err
    none = await cli.but(DATABASE_URL=None)("provision", "-", "--json", stdin=file)
    assert (none.json, none.err) == (first.json, "")


async def test_import_from_an_open_pipe_runs_each_order_at_once(cli: Cli, book: Book, worker: None) -> None:
    process = await cli.start("provision", "-", "--json")
    assert process.stdin
    assert process.stdout
    for nth in (1, 2):
        process.stdin.write(lines(book.order(nth)).encode())
        assert json.loads(await process.stdout.readline())["order_id"] == f"O-{nth}"
    process.stdin.write_eof()
    assert await process.wait() == 0


async def test_interrupt_of_a_silent_pipe_ends_at_once(cli: Cli, book: Book, worker: None) -> None:
    process = await cli.start("provision", "-", "--json")
    assert process.stdin
    assert process.stdout
    process.stdin.write(lines(book.order()).encode())
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == 130
    assert b"1 orders have ended; none is running; what was left had not been started" in said


async def there(client: Client, workflow_id: str) -> None:
    """Until such a run has been started."""
    while True:
        with suppress(RPCError):
            await client.get_workflow_handle(workflow_id).describe()
            return
        await asyncio.sleep(0.05)  # another process starts it, without a notification


@asynccontextmanager
async def held_back(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to the server at this address, and what to clear for its answers not to arrive."""
    host, _, port = address.rpartition(":")
    answers = asyncio.Event()
    answers.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if gate:
                    await gate.wait()
                writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, inner_writer, None), pump(inner_reader, writer, answers))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", answers
        answers.set()


async def test_interrupt_before_temporal_answers_reports_unknown_starts(
    cli: Cli, book: Book, temporal_address: str, temporal_client: Client
) -> None:
    """The outcome is unknown then, and the command says only that."""
    async with held_back(temporal_address) as (address, answers):
        process = await cli.but(TEMPORAL_ADDRESS=address).start("provision", "-")
        assert process.stdin
        process.stdin.write(lines(book.order(99, tenant="Acme")).encode())  # its first line is read before all else
        await until(process.stderr, "No worker polls task queue")
        answers.clear()
        process.stdin.write(lines(book.order()).encode())
        await there(temporal_client, workflow_id("acme", book.ref(1)))
        process.send_signal(signal.SIGINT)
        await until(process.stderr, "no further order starts. Ctrl-C: leave now")
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert process.returncode == 130
    assert (
        f"Interrupted. 1 orders have ended; none is running; 1 may have been started ({book.ref(1)}), "
        "Temporal has not answered; what was left had not been started."
    ) in said.decode()
    await temporal_client.get_workflow_handle(workflow_id("acme", book.ref(1))).terminate()


async def test_interrupted_import_is_continued_by_the_same_command(
    cli: Cli, book: Book, working: RunningWorker, tmp_path: Path, owner: asyncpg.Connection, temporal_client: Client
) -> None:
    file = tmp_path / "my orders.jsonl"
    count = CONCURRENCY + 6
    bad = book.order(99, tenant="Acme")
    # Two of the first subscriber's take turns: the second has a place, and is not started.
    file.write_text(lines(bad, book.order(1), book.order(1, order_id="O-0"), *map(book.order, range(2, count))))
    process = await cli.start("provision", str(file))
    await until(process.stderr, "No worker polls task queue")
    # All that have a turn, and the replies to them have come by the time that a command takes.
    for nth in range(1, CONCURRENCY):
        await there(temporal_client, workflow_id("acme", book.ref(nth)))
    assert not (await cli("status", book.ref(1), "--tenant", "acme")).code
    process.send_signal(signal.SIGINT)
    await until(process.stderr, "no further order starts. Ctrl-C: leave now")
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == 130
    words = said.decode().splitlines()[-1]
    started = CONCURRENCY - 1
    assert words.startswith(
        f"Interrupted. 1 orders have ended; {started} started and continue in Temporal (S-{book.mark}-"
    )
    assert f"; {count - started} had not been started. The same orders again give the same results." in words
    assert words.endswith(f" To continue: lastmile provision '{file}'")
    assert len(rejects(tmp_path / "my orders.rejects.jsonl")) == 1

    async with working:
        ran = await cli("provision", str(file))
    assert ran.code == 1
    summary = [line.split() for line in ran.out.splitlines()]
    assert ["completed", f"{count}"] in summary
    assert ["line", "1", "invalid"] in [line[:3] for line in summary]
    assert await owner.fetchval("SELECT count(*) FROM orders WHERE status = 'completed'") == count
    assert f"{count + 1} orders, of which {count} had ended before:\n" in (await cli("provision", str(file))).out


async def test_import_of_a_truncated_file_reports_the_orders_before_it(cli: Cli, book: Book, worker: None) -> None:
    ran = await cli("provision", "-", "--json", stdin=lines(book.order()) + "{" + "x" * 2**20)
    assert ran.code == 2
    assert [result["status"] for result in ran.json] == ["completed"]
    assert ran.err == "Standard input cannot be read: line 2 is too long for an order.\n"


async def test_import_without_temporal_keeps_the_earlier_rejects(cli: Cli, book: Book, tmp_path: Path) -> None:
    kept = tmp_path / "orders.rejects.jsonl"
    kept.write_text("of an earlier run, and wanted")
    (tmp_path / "orders.jsonl").write_text(lines(book.order()))
    ran = await cli.but(TEMPORAL_ADDRESS="127.0.0.1:1")("provision", str(tmp_path / "orders.jsonl"))
    assert (ran.code, "No Temporal server answers" in ran.err) == (3, True)
    assert kept.exists()


async def test_check_accepts_a_file_of_any_length(alone: Cli, book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(*[book.order()] * 1_499, *[{"tenant": "acme"}] * 30))
    ran, json, dry = await asyncio.gather(
        alone("provision", str(file), "--check"),
        alone("provision", str(file), "--check", "--json"),
        alone("provision", str(file), "--dry-run"),
    )
    assert ran.code == json.code == dry.code == 2
    assert (
        ran.out == "Nothing was started. 1,499 of 1,529 lines are valid orders, 30 are not. The first 20 are shown.\n"
    )
    assert "line 1500: order_id: is missing" in ran.err.splitlines()
    assert len(json.json) == 30
    assert dry.err == f"{file} has more than 1,000 orders: --check takes any number.\n"
