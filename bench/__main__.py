"""`make bench`: measure everything, show it as a table, and write it to `build/bench.json`."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from rich.console import Console

from bench import allocation, disconnects, orders, startup
from bench.figures import Figure, table, write
from db.migrate import upgrade
from devstack.ports import PortInUse
from devstack.postgres import EmbeddedPostgres
from devstack.server import ServerFailed
from devstack.temporal import DevTemporal
from devstack.temporal_program import TemporalMissing, find_temporal

REPORT = Path("build/bench.json")

console = Console(width=None if sys.stdout.isatty() else 140)


async def measure(directory: Path) -> list[Figure]:
    """All figures, on servers of their own: PostgreSQL durable as in production, Temporal in memory."""
    program = await find_temporal(console.print)
    async with EmbeddedPostgres(directory) as postgres:
        await upgrade(postgres.url)
        figures = [
            *await _section("disconnects", disconnects.measure()),
            *await _section("allocations", allocation.measure(postgres)),
        ]
        async with DevTemporal(directory, program=program, database=None) as temporal:
            figures += await _section("orders", orders.measure(postgres.url, temporal.address))
            figures += await _section("start-up", startup.measure(directory, postgres.url, temporal.address))
    return figures


async def _section(name: str, measuring: Awaitable[list[Figure]]) -> list[Figure]:
    began = time.monotonic()
    with console.status(f"measuring {name}"):
        figures = await measuring
    console.print(f"measured {name} in {time.monotonic() - began:.0f} s")
    return figures


def main() -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="lastmile-bench-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another login where this is root
        try:
            figures = asyncio.run(measure(Path(directory)))
        except (ServerFailed, TemporalMissing, PortInUse) as failure:
            sys.exit(str(failure))
    write(figures, REPORT)
    console.print(table(figures, f"{os.cpu_count()} CPUs, load {load:.1f} before the start; also in {REPORT}"))
    missed = [figure for figure in figures if figure.met is False]
    for figure in missed:
        console.print(f"[red]missed:[/] {figure.name}: {figure.target}")
    if not missed:
        console.print("Every target is met.")


if __name__ == "__main__":
    main()
