"""Tests of a worker's log: each line about an order has its ids, and no line has personal data."""

import asyncio
import json
import logging
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import structlog
from temporalio.client import Client

from lastmile.client.orders import Lastmile
from lastmile.contract import Decision, ResultStatus
from lastmile.contract.lines import Customer
from lastmile.devstack.nas import ScriptedNas
from lastmile.telemetry.logs import set_up_logging
from tests.support.orders import Orders, log_in, outcomes
from tests.support.processes import Environment, healthy, port_of, started

SECRET = "not for the logs"
WORD = Decision(by="noc-7", why="Ada called back")
NEIGHBOUR = Customer(ref="C-2", name="Ada Byron", email="ada@example.net")

PERSONAL = {
    "a name": "Ada Example",
    "a name in a failure's words": "Byron",
    "e-mail": "ada@example.net",
    "MAC": "00:1a:2b",
    "ONU": "ACME0",
    "prefix": "2001:db8:",
    "address": "198.51.100.",
    "user name": "@acme.lastmile",
    "operator's words": "called back",
    "password": ":secret@",
    "NAS's secret": SECRET,
}

# PostgreSQL's message then contains the name of another customer.
MEDDLE = """
    CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'nobody is called %', NEW.name; END $$;
    CREATE TRIGGER meddling BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION meddle()
"""

Line = dict[str, Any]


class Lines:
    """The log of the worker while it is written."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.raw: list[str] = []
        self._news = asyncio.Condition()

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            async with self._news:
                self.raw.append(raw.decode())
                self.lines.append(json.loads(raw))
                self._news.notify_all()

    async def having(self, **fields: Any) -> Line:
        """Return the first line with these fields."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: self.those(**fields))
        return self.those(**fields)[0]

    def those(self, **fields: Any) -> list[Line]:
        return [line for line in self.lines if line.items() >= fields.items()]


@asynccontextmanager
async def logging_worker(environment: Environment) -> AsyncIterator[Lines]:
    lines = Lines()
    async with started(environment) as process:
        assert process.stderr is not None
        reading = asyncio.create_task(lines.read(process.stderr))
        try:
            await healthy(port_of(environment))
            yield lines
        finally:
            process.send_signal(signal.SIGTERM)
            await reading
        assert await process.wait() == 0


async def test_logs_of_a_failed_step_have_ids_but_no_message(
    environment: Environment,
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    temporal_client: Client,
) -> None:
    """Run orders of every kind at the log level DEBUG, and check every line of the log."""
    patience = {"LASTMILE_RADIUS_TIMEOUT_SECONDS": "5", "LASTMILE_RADIUS_TRIES": "1"}
    async with (
        ScriptedNas(SECRET.encode(), name="bng-1") as nas,
        logging_worker(environment | patience | {"LASTMILE_LOG_LEVEL": "DEBUG"}) as lines,
    ):
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', $1, $2)",
            SECRET,
            nas.nas.port,
        )
        await log_in(owner, orders, "4F0C-01", nas)
        await completed(lastmile, orders, lines)
        await refused(lastmile, orders, lines)
        await tried_again(lastmile, orders, owner, lines)
        nas.script = lambda _: None
        await parked(lastmile, orders, owner, lines)
        await bug(temporal_client, orders, lines)

    told = "".join(lines.raw)
    assert {what for what, words in PERSONAL.items() if words.lower() in told.lower()} == set()
    assert await owner.fetchval("SELECT count(*) FROM orders WHERE result::text LIKE '%2001:db8:%'"), "there was one"
    for line in lines.those(logger="lastmile.activities") + lines.those(logger="temporalio.workflow"):
        assert {"workflow_id", "run_id", "step"} <= line.keys()
        # A schedule may start a run meanwhile.
        of_an_order = line["workflow_id"].startswith(f"subscriber/acme/{orders.ref}")
        assert of_an_order == ({"tenant", "order_id"} <= line.keys())


async def completed(lastmile: Lastmile, orders: Orders, lines: Lines) -> None:
    result = await lastmile.execute(orders.provision())
    assert result.status is ResultStatus.COMPLETED
    ended = await lines.having(event="order.ended", order_id="O-1")
    about = {"tenant": "acme", "workflow_id": f"subscriber/acme/{orders.ref}", "step": "run_steps", "attempt": 1}
    assert ended.items() >= (about | {"operation": "provision", "status": "completed", "level": "info"}).items()
    steps = {line["step"] for line in lines.those(event="step.ended", order_id="O-1")}
    assert steps >= outcomes(result).keys()


async def refused(lastmile: Lastmile, orders: Orders, lines: Lines) -> None:
    """The requested address is in no pool."""
    taken = {"ipv4_mode": "static", "ipv4_address": "198.51.100.77"}
    order = orders.provision("O-2", 1).model_dump() | {"addressing": taken}
    run = await lastmile.start(type(orders.provision()).model_validate(order))
    assert "198.51.100.77" in (await run.result()).reason
    failed = await lines.having(event="attempt.failed", order_id="O-2")
    assert failed.items() >= {"step": "allocate_ip_address", "kind": "UnknownPoolError", "tried_again": False}.items()
    assert "exception" not in failed, "what was refused needs no search"
    back = await lines.having(event="order.rolling_back", order_id="O-2")
    assert back.items() >= {"step": "allocate_ip_address", "kind": "UnknownPoolError", "level": "warning"}.items()


async def tried_again(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, lines: Lines) -> None:
    await owner.execute(MEDDLE)
    run = await lastmile.start(orders.provision("O-3", 2, customer=NEIGHBOUR))
    failed = await lines.having(event="attempt.failed", order_id="O-3", attempt=2)
    await owner.execute("DROP TRIGGER meddling ON customers")
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert failed.items() >= {"step": "create_customer", "tried_again": True, "level": "warning"}.items()
    [raised] = [line["exception"] for line in lines.those(order_id="O-3") if "exception" in line]
    assert "in create_customer" in raised
    assert "RaiseError" in raised


async def parked(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, lines: Lines) -> None:
    """A deprovision order with a silent NAS, whose release first fails and is then refused."""
    await owner.execute("ALTER TABLE slots RENAME TO gone")
    run = await lastmile.start(orders.deprovision())
    await lines.having(event="attempt.failed", step="release_ip_address", attempt=2)
    await owner.execute("UPDATE orders SET status = 'superseded' WHERE order_id = 'O-9'")
    await owner.execute("ALTER TABLE gone RENAME TO slots")
    line = await lines.having(event="run.parked", order_id="O-9")
    assert line.items() >= {"step": "release_ip_address", "kind": "OrderFencedError", "tenant": "acme"}.items()
    await owner.execute("UPDATE orders SET status = 'running' WHERE order_id = 'O-9'")
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)
    result = await run.result()
    assert "2001:db8:" in result.warnings[0]
    warned = await lines.having(event="step.warned", order_id="O-9")
    assert warned["step"] == "revoke_ipv6_lifecycle"


async def bug(client: Client, orders: Orders, lines: Lines) -> None:
    """A workflow task fails: the SDK logs the failure twice, in Python and in its core."""
    run = await client.start_workflow(NEIGHBOUR.name, id=f"{orders.ref}-bug", task_queue=orders.ref)
    core = await lines.having(event="Failing workflow task")
    assert core["run_id"] == run.result_run_id
    said = await lines.having(logger="temporalio.worker._workflow")
    assert "NotFoundError" in said["exception"] or "ApplicationError" in said["exception"]
    await run.terminate()


# Log records of other libraries


@pytest.fixture
def untouched() -> Iterator[None]:
    """Restore the logging configuration of the process afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logging.captureWarnings(False)
    logging.getLogger("lastmile").setLevel(logging.NOTSET)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def said(captured: pytest.CaptureFixture[str]) -> list[Line]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


@pytest.mark.usefixtures("untouched")
async def test_logs_of_uncaught_failures_have_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("json")

    async def fail() -> None:
        try:
            raise KeyError(NEIGHBOUR.name)
        except KeyError as failure:
            raise ValueError(NEIGHBOUR.name) from failure

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task  # asyncio tells of it now
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"about\n{NEIGHBOUR.name}", UserWarning, stacklevel=1)
    logging.getLogger("elsewhere").error("broken: %s", "badly", exc_info=ValueError(NEIGHBOUR.name))

    [unretrieved, warning, elsewhere] = said(capsys)
    assert unretrieved["event"] == "Task exception was never retrieved"
    assert "ValueError" in unretrieved["exception"]
    assert unretrieved["exception"].index("KeyError") < unretrieved["exception"].index("ValueError")
    assert "in fail" in unretrieved["exception"]
    assert warning["logger"] == "py.warnings"
    assert elsewhere.items() >= {"event": "broken: badly", "exception": "builtins.ValueError"}.items()
    assert NEIGHBOUR.name not in json.dumps([unretrieved, warning, elsewhere])


@pytest.mark.usefixtures("untouched")
def test_log_line_below_the_level_is_dropped_before_it_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    class Unread(Exception):
        @property
        def __traceback__(self) -> None:
            raise AssertionError("the line was built")

    set_up_logging("json", "INFO")
    structlog.get_logger("lastmile.test").debug("step.ended", exc_info=Unread())
    structlog.get_logger("lastmile.test").info("order.ended")
    assert [line["event"] for line in said(capsys)] == ["order.ended"]


@pytest.mark.usefixtures("untouched")
def test_logs_on_a_terminal_are_readable_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up_logging()
    try:
        raise ValueError(NEIGHBOUR.name)
    except ValueError:
        structlog.get_logger("lastmile.test").warning("order.ended", order_id="O-1", exc_info=True)
    told = capsys.readouterr().err
    assert "order.ended" in told
    assert "O-1" in told
    assert "builtins.ValueError" in told
    assert not told.startswith("{")
    assert NEIGHBOUR.name not in told
