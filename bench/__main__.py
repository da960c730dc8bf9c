"""The command `make bench`: run all benchmarks, print a table, and write `build/bench.json`.

`python -m bench PART…` runs only these parts, and writes no file. `TEMPORAL_ADDRESS` names another Temporal server than
a dev server of the benchmark's own; its processor time is not measured.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from rich.console import Console

from bench import (
    allocation,
    bulk_import,
    changes,
    cleanup,
    disconnects,
    netbox,
    orders,
    processes,
    refusals,
    renumbering,
    rest_api,
    slow_controllers,
    snapshot,
    startup,
    urgent,
)
from bench.measurements import Measurement, table, write
from lastmile.client.temporal.connection import connect
from lastmile.client.temporal.search_attributes import add_search_attributes
from lastmile.db.migrate import upgrade
from lastmile.devstack.ports import PortInUseError
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.server import ServerFailedError
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import TemporalMissingError, find_temporal

REPORT = Path("build/bench.json")
PARTS = (
    "disconnects",
    "allocations",
    "netbox",
    "snapshot",
    "cleanup",
    "orders",
    "changes",
    "urgent",
    "slow-controllers",
    "processes",
    "imports",
    "start-up",
    "api",
)
WITHOUT_TEMPORAL = {"disconnects", "allocations", "netbox", "snapshot"}
LONG_PARTS = ("renumbering",)
NAMED_PARTS = (*LONG_PARTS, "refusals")
"""Parts that only run when they are named: they take half an hour, or all processors."""

console = Console(width=None if sys.stdout.isatty() else 140)


async def measure(
    directory: Path, parts: Collection[str] = PARTS, *, large: bool = False, lines: int = renumbering.LINES
) -> list[Measurement]:
    """Run the parts on separate servers: PostgreSQL durable as in production, Temporal in memory or as configured.

    `large` includes the parts that take minutes and 10 GB of disk.
    """
    sizes = (snapshot.SIZE, snapshot.LARGE) if large else (snapshot.SIZE,)
    measurements: list[Measurement] = []
    async with AsyncExitStack() as servers:

        async def section(name: str, measuring: Callable[[], Awaitable[list[Measurement]]]) -> None:
            if name in parts:
                measurements.extend(await _section(name, measuring()))

        postgres = await servers.enter_async_context(EmbeddedPostgres(directory))
        await upgrade(postgres.url)
        await section("disconnects", disconnects.measure)
        await section("allocations", lambda: allocation.measure(postgres))
        await section("netbox", lambda: netbox.measure(directory, postgres.url))
        await section("snapshot", lambda: snapshot.measure(postgres.url, sizes))
        await section("refusals", lambda: refusals.measure(directory, postgres.url))
        if ({*PARTS, *LONG_PARTS} - WITHOUT_TEMPORAL) & set(parts):
            address = await _temporal(directory, servers)
            await section("cleanup", lambda: cleanup.measure(postgres.url, address))
            await section("renumbering", lambda: renumbering.measure(postgres.url, address, lines))
            await section("orders", lambda: orders.measure(postgres.url, address))
            await section("changes", lambda: changes.measure(postgres.url, address))
            await section("urgent", lambda: urgent.measure(postgres.url, address))
            await section("slow-controllers", lambda: slow_controllers.measure(directory, postgres.url, address))
            await section("processes", lambda: processes.measure(directory, postgres.url, address))
            await section("imports", lambda: bulk_import.measure(directory, postgres.url, address))
            await section("start-up", lambda: startup.measure(directory, postgres.url, address))
            await section("api", lambda: rest_api.measure(directory, postgres.url, address))
    return measurements


async def _temporal(directory: Path, servers: AsyncExitStack) -> str:
    """Return the address of a Temporal server: of `TEMPORAL_ADDRESS`, else of a dev server in memory."""
    if address := os.environ.get("TEMPORAL_ADDRESS"):
        if problems := await add_search_attributes(await connect({"TEMPORAL_ADDRESS": address})):
            sys.exit("\n".join(problems))
        return address
    program = await find_temporal(console.print)
    return (await servers.enter_async_context(DevTemporal(directory, program=program, database=None))).address


async def _section(name: str, measuring: Awaitable[list[Measurement]]) -> list[Measurement]:
    began = time.monotonic()
    with console.status(f"measuring {name}"):
        measurements = await measuring
    console.print(f"measured {name} in {time.monotonic() - began:.0f} s")
    return measurements


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    arguments.add_argument("part", nargs="*", choices=("all", *PARTS, *NAMED_PARTS), default="all")
    arguments.add_argument(
        "--large", action="store_true", help="also measure 10 million delegations: takes minutes and 10 GB of disk"
    )
    arguments.add_argument(
        "--lines", type=int, default=renumbering.LINES, help="how many lines the part renumbering has (default: 10 000)"
    )
    given = arguments.parse_args()
    # Otherwise there is a line for each step and each rollback.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("temporalio").setLevel(logging.ERROR)
    part = given.part
    parts = PARTS if "all" in part else part
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="lastmile-bench-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another login if root starts it
        try:
            measurements = asyncio.run(measure(Path(directory), parts, large=given.large, lines=given.lines))
        except (ServerFailedError, TemporalMissingError, PortInUseError) as failure:
            sys.exit(str(failure))
    caption = f"{os.cpu_count()} CPUs, load {load:.1f} before the start"
    if set(parts) == set(PARTS):
        write(measurements, REPORT)
        caption += f"; also in {REPORT}"
    console.print(table(measurements, caption))
    missed = [measurement for measurement in measurements if measurement.met is False]
    for measurement in missed:
        console.print(f"[red]missed:[/] {measurement.name}: {measurement.target}")
    if not missed:
        console.print("Every target is met.")


if __name__ == "__main__":
    main()
