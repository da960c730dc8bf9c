"""The whole stack as a user meets it: up, found by others, down again, whatever happens meanwhile."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from dotenv import dotenv_values

from ipam.netbox import NetBox
from lastmile.devstack.lock import StackRunningError, stack_lock
from lastmile.devstack.ports import HOST
from lastmile.devstack.server import ServerFailedError
from lastmile.devstack.stack import Stack
from lastmile.settings import STACK_FILE, Settings


@pytest.fixture
def alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory, and nothing in the environment that would replace a server of the stack."""
    for name in [name for name in os.environ if name.startswith(("TEMPORAL_", "DATABASE_", "LASTMILE_", "NETBOX_"))]:
        monkeypatch.delenv(name)
    (state / "temporal.toml").touch()
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(state / "temporal.toml"))
    return state


async def _http_status(host: str, port: str, path: str) -> int:
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    return int(status.split()[1])


async def test_stack_is_found_by_clients_and_can_be_restarted(alone: Path) -> None:
    async with Stack(alone, Settings()) as first:
        found = dotenv_values(alone / STACK_FILE)
        assert found == first.environment
        assert found["LASTMILE_HTTP_PORT"]
        assert await _http_status(HOST, found["LASTMILE_HTTP_PORT"], "/healthz") == 200
        assert first.addresses["API"] == f"http://{HOST}:{found['LASTMILE_API_PORT']}/docs"
        for page in ("/docs", "/readyz"):
            assert await _http_status(HOST, found["LASTMILE_API_PORT"], page) == 200
        assert await _http_status(HOST, found["LASTMILE_API_METRICS_PORT"], "/metrics") == 200
        assert first.api_token is not None
        bearer = f"Bearer {first.api_token.read_text()}"
        async with httpx.AsyncClient(trust_env=False) as client:
            orders = await client.get(f"{first.api_url}/v1/orders", headers={"Authorization": bearer})
        assert orders.json() == {"results": [], "next": None}
        assert (alone / STACK_FILE).stat().st_mode & 0o077 == 0
        assert (alone / "netbox.db").stat().st_mode & 0o077 == 0
        assert first.addresses["OLT controller"] == f"{first.olt.url} (a stand-in for VOLTHA)"
        assert await _http_status(HOST, first.acs.url.rpartition(":")[2], "/devices") == 200
        assert first.addresses["NetBox"] == f"{found['NETBOX_URL']}/api/ (a stand-in)"
        async with NetBox(**Settings(_env_file=alone / STACK_FILE).netbox or {}) as netbox:
            await netbox.require()
        with pytest.raises(StackRunningError, match=f"process {os.getpid()}"):
            async with Stack(alone, Settings()):
                pass
    assert not (alone / STACK_FILE).exists()
    async with Stack(alone, Settings()) as second:
        assert second.addresses == first.addresses
        assert second.nas == first.nas


async def test_stacks_in_two_directories_run_side_by_side(alone: Path) -> None:
    # A stack uses any free port.
    async with Stack(alone / "one", Settings()) as one, Stack(alone / "two", Settings(http_port=0)) as two:
        shared = one.addresses.items() & two.addresses.items()
        assert not shared


async def test_stack_ends_with_a_failed_server_and_names_it(alone: Path) -> None:
    async with Stack(alone, Settings()) as stack:
        mark = (alone / "postgres" / "postmaster.pid").read_text()
        os.kill(int(mark.splitlines()[0]), signal.SIGKILL)
        with pytest.raises(ServerFailedError, match=r"PostgreSQL ended with status 137(.|\n)*postgres\.log"):
            await stack.watch()


async def test_worker_that_cannot_start_stops_the_stack(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    monkeypatch.setenv("LASTMILE_TASK_QUEUE", "")  # only the worker sees it, and refuses it
    with pytest.raises(ServerFailedError, match="The worker ended with status"):
        async with Stack(alone, settings):
            pass
    async with stack_lock(alone):
        pass


UP = """
import asyncio, pathlib, sys
from rich.console import Console
from lastmile.devstack.up import up
from lastmile.settings import Settings

asyncio.run(up(pathlib.Path(sys.argv[1]), Settings(), Console(width=200)))
"""


async def _up(state: Path) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    stack = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UP, str(state)), stdout=asyncio.subprocess.PIPE
    )
    assert stack.stdout is not None
    return stack, stack.stdout


async def _until(output: asyncio.StreamReader, word: str) -> None:
    while word not in (line := (await output.readline()).decode()):
        assert line, f"it ended without saying {word!r}"


def _servers(stack: asyncio.subprocess.Process) -> list[psutil.Process]:
    servers: list[psutil.Process] = psutil.Process(stack.pid).children(recursive=True)
    return servers


async def _have_ended(servers: list[psutil.Process]) -> None:
    """Wait until all have ended: a child that a server leaves is killed, and is listed until init has collected it."""
    _, left = await asyncio.to_thread(psutil.wait_procs, servers, timeout=60)
    assert not left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_stops_every_server(alone: Path, number: signal.Signals) -> None:
    stack, output = await _up(alone)
    await _until(output, "Running")
    servers = _servers(stack)
    stack.send_signal(number)
    await _until(output, "Stopped")
    assert await stack.wait() == 0
    assert len(servers) > 5
    await _have_ended(servers)
    assert not (alone / STACK_FILE).exists()


async def test_signal_during_the_start_stops_every_server(alone: Path) -> None:
    stack, output = await _up(alone)
    await _until(output, "Starting")
    stack.send_signal(signal.SIGINT)
    await _until(output, "Stopped")
    assert await stack.wait() == 0
    async with stack_lock(alone):
        pass


async def test_second_signal_leaves_no_server_running(alone: Path) -> None:
    stack, output = await _up(alone)
    await _until(output, "Running")
    servers = _servers(stack)
    stack.send_signal(signal.SIGINT)
    await _until(output, "Stopping")
    with suppress(ProcessLookupError):  # it was faster than impatience
        stack.send_signal(signal.SIGINT)
    await stack.wait()
    await _have_ended(servers)


async def test_stack_after_a_kill_waits_for_the_remaining_servers(alone: Path) -> None:
    stack, output = await _up(alone)
    await _until(output, "Running")
    ports = json.loads((alone / "ports.json").read_text())
    stack.kill()
    await stack.wait()
    async with Stack(alone, Settings()):
        assert json.loads((alone / "ports.json").read_text()) == ports
