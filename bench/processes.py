"""Provisions per second with one, two and four worker processes, and an import of new orders.

The servers run on the same machine. The processor time of each, and the cores that all of them use together, say what
the limit is.
"""

import asyncio
import sys
import time
from itertools import count
from pathlib import Path

import psutil

from bench.cpu import SERVERS, cpu_seconds
from bench.measurements import Measurement, at_least
from bench.orders import provision_order
from bench.rounds import Measured, Turn, medians, rate
from ipam.pools import Pool, add_pool
from lastmile.client.order_import.runs import CONCURRENCY
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import ProvisionSubscriber
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.devstack.lastmile_process import Worker
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.secret import ensure_secret
from lastmile.subscribers.tenants import add_tenant

__all__ = ["measure"]

PROCESSES = (1, 2, 4)
ROUNDS = 3
BATCH = 128
FIRST = 20_000_000
"""The first order number, above those of the other benchmarks."""
TENANT = "processes"


async def measure(directory: Path, owner_url: str, temporal_address: str) -> list[Measurement]:
    """Measure workers of one, two and four processes in a migrated database, one after the other in each round."""
    await _prepare(owner_url)
    password = ensure_secret(directory, "lastmile")
    environment = {
        "DATABASE_URL": await make_login(owner_url, "lastmile", password, TENANT_ROLE, PLATFORM_ROLE),
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_STATE_DIR": str(directory),
        "LASTMILE_HTTP_HOST": HOST,
        "LASTMILE_HTTP_PORT": str(Ports(directory).claim("worker")),
        "LASTMILE_LOG_LEVEL": "ERROR",
    }
    lastmile = Lastmile(await connect({"TEMPORAL_ADDRESS": temporal_address}))
    numbers = count(FIRST)
    turns: dict[str, Turn] = {
        f"{processes}": _provisions(lastmile, numbers, directory, environment, processes) for processes in PROCESSES
    }
    found = await medians(ROUNDS, {**turns, "import": _import(numbers, directory, environment)})
    one = found["1"]
    measurements = []
    for processes in PROCESSES:
        seen, name = found[f"{processes}"], f"{processes} worker process{'es' if processes > 1 else ''}"
        measurements += [
            Measurement(f"provisions with {name}", seen["rate"], "/s", "one process", one["rate"]),
            Measurement(f"cores in use with {name}", seen["cores"], "", "one process", one["cores"]),
            *(
                Measurement(f"CPU of a provision with {name}: {part}", seen[part], "ms", "one process", one[part])
                for part in ("workers", "client", *SERVERS)
            ),
        ]
    imported = found["import"]["rate"]
    peer = "provisions with 1 worker process"
    return [
        *measurements,
        Measurement(f"import of {BATCH} new orders", imported, "/s", peer, one["rate"], at_least(0.9)),
    ]


def _provisions(
    lastmile: Lastmile, numbers: "count[int]", directory: Path, environment: dict[str, str], processes: int
) -> Turn:
    async def work() -> None:
        result = await lastmile.execute(_order(next(numbers)))
        if result.warnings or result.reason:
            raise RuntimeError(f"order {result.order_id} ended {result.status}: {result.reason or result.warnings}")

    async def turn() -> Measured:
        async with _worker(directory, environment, processes):
            await rate(work, CONCURRENCY, CONCURRENCY)  # caches, connections, prepared statements
            before, began = _seconds(), time.perf_counter()
            per_second = await rate(work, BATCH, CONCURRENCY)
            elapsed = time.perf_counter() - began
            used = {name: seconds - before[name] for name, seconds in _seconds().items()}
        each = {name: seconds / BATCH * 1000 for name, seconds in used.items()}
        return {"rate": per_second, "cores": sum(used.values()) / elapsed, **each}

    return turn


def _import(numbers: "count[int]", directory: Path, environment: dict[str, str]) -> Turn:
    async def turn() -> Measured:
        async with _worker(directory, environment, 1):
            await _run_import(numbers, directory, environment, CONCURRENCY)
            small = await _run_import(numbers, directory, environment, CONCURRENCY)
            large = await _run_import(numbers, directory, environment, CONCURRENCY + BATCH)
        return {"rate": BATCH / (large - small)}  # without the start of the command

    return turn


async def _run_import(numbers: "count[int]", directory: Path, environment: dict[str, str], orders: int) -> float:
    """Import this many new orders, and return the duration in seconds."""
    file = directory / "new-orders.jsonl"
    file.write_text("".join(f"{_order(next(numbers)).model_dump_json(exclude_defaults=True)}\n" for _ in range(orders)))
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastmile.cli", "provision", str(file)),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise RuntimeError(f"`lastmile provision {file}` failed: its error is above")
    return time.perf_counter() - began


def _worker(directory: Path, environment: dict[str, str], processes: int) -> Worker:
    port = int(environment["LASTMILE_HTTP_PORT"])
    return Worker(directory, environment, port=port, grace_seconds=5, processes=processes)


def _seconds() -> Measured:
    """Return the processor seconds so far of the client, which is this process, the workers and the servers."""
    seconds = cpu_seconds()
    seconds["client"], seconds["workers"] = seconds.pop("worker"), 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[1:3] == ["-m", "lastmile.worker"]:
                seconds["workers"] += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return seconds


def _order(number: int) -> ProvisionSubscriber:
    return provision_order(number).model_copy(update={"tenant": TENANT})


async def _prepare(owner_url: str) -> None:
    database = Database(owner_url)
    pool = Pool(name=TENANT, prefix="3fff:1::/32", purpose=Purpose.IPV6_PD, delegated_length=56, tenant=TENANT)
    try:
        async with database.platform() as platform:
            await add_tenant(platform, TENANT, "Processes")
            await add_pool(platform, pool)
    finally:
        await database.close()
