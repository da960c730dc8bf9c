"""The start time of the command and of the worker."""

import asyncio
import sys
import time
from pathlib import Path

from bench.measurements import Measurement, Target
from bench.rounds import Measured, Turn, medians
from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.devstack.lastmile_process import Worker
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.secret import ensure_secret

__all__ = ["measure"]

ROUNDS = 3


async def measure(directory: Path, owner_url: str, temporal_address: str) -> list[Measurement]:
    """Measure `lastmile --help`, and a worker from its start until `/healthz` is ok, in a migrated database."""
    password = ensure_secret(directory, "lastmile")
    url = await make_login(owner_url, "lastmile", password, TENANT_ROLE, PLATFORM_ROLE)
    port = Ports(directory).claim("worker")
    environment = {
        "DATABASE_URL": url,
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_HTTP_HOST": HOST,
        "LASTMILE_HTTP_PORT": str(port),
    }

    async def worker() -> Measured:
        began = time.perf_counter()
        async with Worker(directory, environment, port=port, grace_seconds=5):
            return {"seconds": time.perf_counter() - began}

    turns = {"help": _run("-m", "lastmile.cli", "--help"), "python": _run("-c", "pass"), "worker": worker}
    await medians(1, turns)  # bytecode, the disk's cache
    found = {name: measured["seconds"] for name, measured in (await medians(ROUNDS, turns)).items()}
    bare = "python -c pass"
    return [
        Measurement("lastmile --help", found["help"], "s", bare, found["python"], Target("value", "≤", 0.5)),
        Measurement("worker, from its start to /healthz", found["worker"], "s", bare, found["python"]),
    ]


def _run(*arguments: str) -> Turn:
    async def turn() -> Measured:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*(sys.executable, *arguments), stdout=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError(f"`python {' '.join(arguments)}` failed: its error is above")
        return {"seconds": time.perf_counter() - began}

    return turn
