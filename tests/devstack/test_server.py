"""Tests of a server process of the stack."""

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from lastmile.devstack.server import ServerFailedError, ServerProcess

OBEDIENT = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


async def _start(program: str, log: Path, *, patience: float = 30) -> ServerProcess:
    server = await ServerProcess.start("It", [sys.executable, "-c", program], log=log, patience=patience)
    await server.ready(_says_up(server), within=30)
    return server


def _says_up(server: ServerProcess):  # type: ignore[no-untyped-def]
    async def probe() -> bool:
        return "up" in server.output()

    return probe


async def test_stop_sends_the_signal_and_waits(tmp_path: Path) -> None:
    server = await _start(OBEDIENT, tmp_path / "log")
    await server.stop()
    assert str(server.failure()).startswith(f"It ended with status {128 + signal.SIGTERM}.")
    await server.stop()  # again, harmlessly


async def test_stop_of_a_hanging_server_kills_it(tmp_path: Path) -> None:
    server = await _start(STUBBORN, tmp_path / "log", patience=0.1)
    await server.stop()
    assert f"status {128 + signal.SIGKILL}" in str(server.failure())


async def test_failure_of_an_ended_server_has_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("from an earlier run\n")
    server = await _start("print('up'); print('disk on fire'); raise SystemExit(3)", tmp_path / "log")
    await server.ended()
    message = str(server.failure())
    assert "It ended with status 3" in message
    assert "disk on fire" in message
    assert "earlier run" not in message


async def test_ready_of_a_server_that_ends_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerFailedError, match="no such config"):
        await _start("raise SystemExit('no such config')", tmp_path / "log")


async def test_ready_after_the_time_out_stops_the_server(tmp_path: Path) -> None:
    server = await ServerProcess.start("It", [sys.executable, "-c", OBEDIENT], log=tmp_path / "log")

    async def never() -> bool:
        return False

    with pytest.raises(ServerFailedError, match=r"not ready within 0\.2 s"):
        await server.ready(never, within=0.2)
    await asyncio.wait_for(server.ended(), 30)


async def test_server_after_a_kill_of_its_parent_ends(tmp_path: Path) -> None:
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path / "log")), stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    server = psutil.Process(int(await starter.stdout.readline()))
    starter.kill()
    await starter.wait()
    await asyncio.to_thread(server.wait, 30)


STARTER = f"""
import asyncio, pathlib, sys
from lastmile.devstack.server import ServerProcess

async def main():
    server = await ServerProcess.start(
        "It", [sys.executable, "-c", "import os; print(os.getpid(), flush=True); " + {OBEDIENT!r}],
        log=pathlib.Path(sys.argv[1]),
    )
    async def up():
        return "up" in server.output()
    await server.ready(up, within=30)
    print(server.output().split()[0], flush=True)
    await server.ended()

asyncio.run(main())
"""
