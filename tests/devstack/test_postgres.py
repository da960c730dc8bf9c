"""Tests of the embedded PostgreSQL."""

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import asyncpg
import pytest

from lastmile.devstack.lock import stack_lock
from lastmile.devstack.ports import HOST, PortInUseError
from lastmile.devstack.postgres import EmbeddedPostgres


async def _query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_after_a_restart_has_its_data_and_port(state: Path) -> None:
    async with EmbeddedPostgres(state, durable=False) as first:
        await _query(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with EmbeddedPostgres(state, durable=False) as second:
        assert second.url == first.url
        assert await _query(second.url, "SELECT answer FROM kept") == 42


async def test_postgres_after_a_kill_has_its_committed_data(state: Path) -> None:
    stack = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMIT_AND_HANG, str(state)), stdout=asyncio.subprocess.PIPE
    )
    assert stack.stdout is not None
    assert await stack.stdout.readline() == b"committed\n"
    stack.kill()
    await stack.wait()
    async with stack_lock(state), EmbeddedPostgres(state) as postgres:
        assert await _query(postgres.url, "SELECT answer FROM kept") == 42


COMMIT_AND_HANG = """
import asyncio, pathlib, sys
import asyncpg
from lastmile.devstack.lock import stack_lock
from lastmile.devstack.postgres import EmbeddedPostgres

async def main():
    state = pathlib.Path(sys.argv[1])
    async with stack_lock(state), EmbeddedPostgres(state) as postgres:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        print("committed", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_postgres_with_a_stale_pid_file_starts(state: Path) -> None:
    async with EmbeddedPostgres(state, durable=False):
        mark = (state / "postgres" / "postmaster.pid").read_text()
    ours = "\n".join([str(os.getpid()), *mark.splitlines()[1:]])
    (state / "postgres" / "postmaster.pid").write_text(f"{ours}\n")
    async with EmbeddedPostgres(state, durable=False) as postgres:
        assert await _query(postgres.url, "SELECT 1") == 1


async def test_postgres_below_a_private_directory_starts(tmp_path: Path) -> None:
    """Root's PostgreSQL runs as another login, which may not enter the directory. The permissions stay."""
    tmp_path.chmod(0o700)
    state = tmp_path / "state"
    try:
        for _ in range(2):
            async with EmbeddedPostgres(state, durable=False) as postgres:
                assert await _query(postgres.url, "SELECT 1") == 1
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree((state / "postgres").resolve())


async def test_postgres_without_the_password_refuses_the_login(state: Path) -> None:
    async with EmbeddedPostgres(state, durable=False) as postgres:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.url, password="guessed")
    assert (state / "secrets" / "postgres").stat().st_mode & 0o077 == 0


async def test_server_with_an_occupied_port_names_it(state: Path) -> None:
    async with EmbeddedPostgres(state, durable=False) as postgres:
        port = int(postgres.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server((HOST, port)), pytest.raises(PortInUseError, match=f"{port}.*PostgreSQL.*ports.json"):
        async with EmbeddedPostgres(state):
            pass
