"""The worker process: it refuses to start with everything that is wrong, answers, and ends in order."""

import asyncio
import signal
import socket
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

import lastmile.db
from lastmile.client.orders import Lastmile
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.contract import ResultStatus
from lastmile.db import Database
from lastmile.devstack.logins import make_login
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.ports import HOST, is_free
from lastmile.services.controllers import NewController, add_controller
from lastmile.telemetry.metrics import SNAPSHOT_METRICS
from tests.support.line_controller import DRIVERS, LineController
from tests.support.orders import Orders
from tests.support.processes import Environment, Worker, environment_of, get, healthy, port_of, started, until

NOBODY = f"{HOST}:1"
VERSIONS = Path(lastmile.db.__file__).with_name("migrations") / "versions"

# Whether a transaction waits to write into a locked table of this database: the hourly audit only reads.
WAITING = """
    SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE NOT granted AND mode = 'RowExclusiveLock' AND datname = current_database()
"""

ONE_ACTIVE = 'ipv6_lifecycle_state_total{state="active",tenant="acme"} 1.0'


@pytest.fixture
async def environment(
    tmp_path: Path, owner_url: str, database: Database, temporal_address: str, orders: Orders
) -> Environment:
    return await environment_of(tmp_path, owner_url, temporal_address, task_queue=orders.ref)


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


async def refusal(environment: Environment) -> str:
    """Return the error output of a worker that does not start."""
    async with started(environment) as process:
        _, words = await process.communicate()
        assert process.returncode == 2, words.decode()
        assert b"Traceback" not in words
        return words.decode()


async def test_everything_that_is_missing_is_said_at_once(environment: Environment) -> None:
    del environment["DATABASE_URL"]
    words = await refusal(environment | {"TEMPORAL_ADDRESS": NOBODY})
    assert "DATABASE_URL is not set: postgresql://user:password@host:port/name" in words
    assert f"No Temporal server answers at {NOBODY}" in words


async def test_worker_with_invalid_settings_names_all_of_them(environment: Environment) -> None:
    words = await refusal(environment | {"LASTMILE_HTTP_PORT": "99999", "LASTMILE_RADIUS_TRIES": "none"})
    assert "LASTMILE_HTTP_PORT: must be at most 65535" in words
    assert "LASTMILE_RADIUS_TRIES: must be a whole number" in words
    assert "pydantic" not in words.lower()


async def test_worker_with_wrong_settings_of_temporal_tells_them_with_the_others(environment: Environment) -> None:
    wrong = {"TEMPORAL_PROFILE": "nope", "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nowhere.pem"}
    for also in ({"LASTMILE_HTTP_PORT": "99999"}, {"DATABASE_URL": f"postgresql://lastmile@{NOBODY}/lastmile"}):
        words = await refusal(environment | wrong | also)
        assert "  - TEMPORAL_PROFILE: there is no profile 'nope'" in words
        assert "  - TEMPORAL_TLS_SERVER_CA_CERT_PATH: /nowhere.pem cannot be read" in words
        assert f"  - {next(iter(also))}: " in words


async def test_worker_without_a_usable_database_says_why_and_hides_the_password(
    environment: Environment, owner_url: str
) -> None:
    url = make_url(await make_login(owner_url, "test_no_member", "secret", "lastmile_radius"))
    place = f"{url.host}:{url.port}"
    for bad, sentence in (
        (url.set(port=1), f"no PostgreSQL answers at {url.host}:1: is it running, and are host and port right?"),
        (
            url.set(password="wr0ng"),
            f"PostgreSQL at {place} refuses the login 'test_no_member': check the user, the password and pg_hba.conf.",
        ),
        (
            url.set(database="no"),
            f"PostgreSQL at {place} has no database 'no': check the name, or create the database.",
        ),
        (url, "the login 'test_no_member' must be a member of lastmile_app and lastmile_platform."),
    ):
        shown = bad.render_as_string(hide_password=True)
        words = await refusal(environment | {"DATABASE_URL": bad.render_as_string(hide_password=False)})
        assert f"  - DATABASE_URL: the database {shown} cannot be used: {sentence}\n" in words
        assert bad.password not in words.replace(shown, "")


async def test_worker_with_an_unbound_role_is_refused(environment: Environment, owner: asyncpg.Connection) -> None:
    await owner.execute("GRANT CREATE ON SCHEMA public TO lastmile_app; ALTER TABLE customers OWNER TO lastmile_app")
    assert "the database role lastmile_app is a superuser, has BYPASSRLS or owns tables" in await refusal(environment)


async def test_worker_with_a_superuser_login_warns(environment: Environment, owner_url: str) -> None:
    async with started(environment | {"DATABASE_URL": owner_url}) as process:
        assert process.stderr
        async for line in process.stderr:
            if b"worker.started" in line:
                raise AssertionError("it has started without a warning")
            if b"worker.superuser_login" in line:
                break
        assert b"the login postgres is a superuser or has BYPASSRLS" in line
        await healthy(port_of(environment))


async def test_worker_with_an_outdated_database_is_refused(environment: Environment, owner: asyncpg.Connection) -> None:
    await owner.execute("DELETE FROM alembic_version")
    all_of_them = ", ".join(sorted(file.stem for file in VERSIONS.glob("0*.py")))
    assert f"the database lacks migrations {all_of_them}: run `lastmile migrate`" in await refusal(environment)


async def test_worker_with_a_port_in_use_is_refused(environment: Environment) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        words = await refusal(environment | {"LASTMILE_HTTP_PORT": str(port)})
    assert f"LASTMILE_HTTP_PORT: {HOST}:{port} cannot be used: Address already in use" in words


async def test_worker_with_an_incomplete_netbox_is_refused(environment: Environment) -> None:
    with NetBoxServer() as netbox:
        words = await refusal(environment | {"NETBOX_URL": netbox.url, "NETBOX_TOKEN": netbox.token})
        assert "NetBox lacks what Lastmile needs, see `lastmile netbox check`: custom field lastmile_key" in words


async def test_worker_starts_with_a_refused_netbox_token_and_says_so(environment: Environment) -> None:
    with NetBoxServer() as netbox:
        async with started(environment | {"NETBOX_URL": netbox.url, "NETBOX_TOKEN": "f" * 40}) as process:
            await healthy(port_of(environment))
            line = await line_with(process, b"worker.netbox_away")
            assert b"Invalid token" in line
            assert b"f" * 40 not in line


async def test_worker_with_another_server_as_netbox_is_refused(environment: Environment) -> None:
    with NetBoxServer() as netbox:
        words = await refusal(environment | {"NETBOX_URL": f"{netbox.url}/nowhere", "NETBOX_TOKEN": netbox.token})
        assert "is not NetBox's API (404, text/html): is NETBOX_URL right?" in words


async def line_with(process: Worker, event: bytes) -> bytes:
    """The first line of the log that has the event."""
    assert process.stderr is not None
    while event not in (line := await process.stderr.readline()):
        assert line, f"the worker ended without {event!r}"
    return line


async def test_worker_without_netbox_starts(environment: Environment) -> None:
    async with started(environment | {"NETBOX_URL": f"http://{NOBODY}", "NETBOX_TOKEN": "f" * 40}) as process:
        await healthy(port_of(environment))
        assert b"no NetBox answers" in await line_with(process, b"worker.netbox_away")


async def test_worker_serves_its_pages_and_runs_orders(
    environment: Environment, temporal_client: Client, orders: Orders
) -> None:
    port = port_of(environment)
    async with started(environment) as process:
        await healthy(port)
        result = await Lastmile(temporal_client, task_queue=orders.ref).execute(orders.provision())
        assert result.status is ResultStatus.COMPLETED
        assert "python_info" in await asyncio.to_thread(get, port, "/metrics")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_worker_asks_the_controller_of_each_olt(
    environment: Environment, temporal_client: Client, orders: Orders, database: Database
) -> None:
    async with LineController("hush-hush") as north, LineController("hush-hush") as south:
        with pytest.MonkeyPatch.context() as patched:
            patched.syspath_prepend(DRIVERS)
            for server, olt in ((north, "olt-1"), (south, "olt-2")):
                new = NewController(name=olt, driver="line-onu", url=server.url, secret="hush-hush", olts={olt})
                await add_controller(database, new, None, actor="noc")
        async with started(environment, constants={"sys.path": [str(DRIVERS), *sys.path]}) as process:
            await healthy(port_of(environment))
            lastmile = Lastmile(temporal_client, task_queue=orders.ref)
            await lastmile.execute(orders.provision())
            await lastmile.execute(orders.relocate(olt="olt-2"))
            process.send_signal(signal.SIGTERM)
            _, log = await process.communicate()
        await asyncio.gather(north.closed.wait(), south.closed.wait())
    assert (north.words, south.words) == (["on ACME00000000", "off ACME00000000"], ["on ACME00000000"])
    assert log.count(b"controller.opened") == log.count(b"controller.closed") == 2
    assert b"hush-hush" not in log


async def test_sigterm_lets_a_running_activity_finish(
    environment: Environment, temporal_client: Client, orders: Orders, owner: asyncpg.Connection
) -> None:
    """A lock holds the first group of steps up; the worker waits for it, and the next one goes on from there."""
    lastmile = Lastmile(temporal_client, task_queue=orders.ref)
    async with started(environment) as process:
        await healthy(port_of(environment))
        async with owner.transaction():
            await owner.execute("LOCK TABLE customers")
            run = await lastmile.start(orders.provision())
            await until(lambda: owner.fetchval(WAITING))
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            while b"worker.stopping" not in await process.stderr.readline():
                pass
        assert await process.wait() == 0

    events = [event.event_type async for event in run.handle.fetch_history_events()]
    assert events.count(EventType.EVENT_TYPE_MARKER_RECORDED) >= 1
    lost = {EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT}
    assert not lost.intersection(events)
    async with started(environment):
        result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert {step.attempts for step in result.steps} == {1}


@pytest.mark.parametrize("typed", ["5_6", "0", "-1", "1000", "two"])
async def test_worker_with_a_number_of_processes_that_is_none_is_refused(environment: Environment, typed: str) -> None:
    async with started(environment, "--processes", typed) as process:
        _, words = await process.communicate()
    assert (process.returncode, f"must be a whole number from 1 to 999, and is '{typed}'" in words.decode()) == (
        2,
        True,
    )


async def test_several_processes_live_and_end_together(environment: Environment) -> None:
    port = port_of(environment)
    async with started(environment, "--processes", "2") as process:
        await asyncio.gather(healthy(port), healthy(port + 1))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert is_free(port)
    assert is_free(port + 1)


async def test_several_processes_show_the_same_figures_also_after_a_restart(
    environment: Environment, temporal_client: Client, orders: Orders
) -> None:
    port = port_of(environment)
    names = tuple(metric.name for metric in SNAPSHOT_METRICS if metric.name.startswith("ipv6_"))

    async def figures(port: int) -> list[str]:
        page = await asyncio.to_thread(get, port, "/metrics")
        return [line for line in page.splitlines() if line.startswith(names)]

    async def all_show_it() -> list[str] | None:
        first, *others = [await figures(port + index) for index in range(3)]
        return first if ONE_ACTIVE in first and others == [first, first] else None

    async with started(environment, "--processes", "3"):
        await asyncio.gather(*(healthy(port + index) for index in range(3)))
        await Lastmile(temporal_client, task_queue=orders.ref).execute(orders.provision())
        await temporal_client.execute_workflow("Metrics", id=f"metrics-{orders.ref}", task_queue=orders.ref)
        shown = await until(all_show_it)
    async with started(environment):

        async def shown_again() -> bool:
            return await figures(port) == shown

        await until(shown_again)


async def test_worker_process_that_fails_ends_all_processes(environment: Environment) -> None:
    port = port_of(environment)
    with socket.create_server((HOST, port + 1)):
        async with started(environment, "--processes", "2") as process:
            assert await process.wait() == 2
    assert is_free(port)


async def test_worker_creates_and_runs_the_schedules(
    environment: Environment, orders: Orders, temporal_client: Client
) -> None:
    """The worker creates the Schedules and runs their workflows."""
    schedules = ScheduleManager(temporal_client, orders.ref)
    async with started(environment) as process:
        assert process.stderr
        async for line in process.stderr:
            if b"worker.started" in line:
                break
        for plan in SCHEDULES:
            assert not (await schedules.status(plan)).paused
            await schedules.trigger(plan.name)
            while (run := (await schedules.status(plan)).last_run) is None:
                pass  # a Schedule cannot be waited for
            await temporal_client.get_workflow_handle(run).result()
    for plan in SCHEDULES:
        await temporal_client.get_schedule_handle(schedules.id_of(plan.name)).delete()
