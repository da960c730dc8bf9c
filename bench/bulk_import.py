"""Memory and speed of `lastmile provision FILE` for a long file of orders that have ended before.

This is the importer's own work: it reads and validates each order, looks it up, and prints its result. The benchmark
omits the runs themselves, which the workers execute. Their number in flight does not depend on the length of the file.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import asyncpg
import psutil

from bench.measurements import Measurement, at_most
from bench.orders import provision_order
from bench.rounds import Measured
from lastmile.contract import Created, OrderResult, ProvisionSubscriber, ResultStatus, StepResult
from lastmile.contract.operations import PROVISION

__all__ = ["measure"]

MANY = 100_000
FEW = 1_000
FIRST = 10_000_000
"""The first order number, above those of the other benchmarks."""
SAMPLE_SECONDS = 0.02
TENANT = "import"


async def measure(directory: Path, owner_url: str, temporal_address: str) -> list[Measurement]:
    """Measure imports in a migrated database, with the login of its owner."""
    files = {count: directory / f"orders-{count}.jsonl" for count in (MANY, FEW)}
    await _prepare(owner_url, files)
    environment = {
        "DATABASE_URL": owner_url,
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_STATE_DIR": str(directory),
    }
    few = await _import(files[FEW], environment)
    many = await _import(files[MANY], environment)
    few_words = f"{FEW:,} orders"
    return [
        Measurement(f"memory of an import of {MANY:,} orders", many["mb"], "MB", few_words, few["mb"], at_most(1.2)),
        Measurement("orders that have ended, sent again", MANY / many["seconds"], "/s"),
    ]


async def _prepare(owner_url: str, files: dict[int, Path]) -> None:
    """Write the files of orders, and the records of their results in the database."""
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Import')", TENANT)
        with files[MANY].open("w") as many, files[FEW].open("w") as few:
            for begin in range(0, MANY, FEW):
                orders = [_order(FIRST + begin + nth) for nth in range(FEW)]
                lines = [order.model_dump_json(exclude_defaults=True) + "\n" for order in orders]
                many.writelines(lines)
                if begin == 0:
                    few.writelines(lines)
                await owner.copy_records_to_table("orders", records=map(_row, orders), columns=_COLUMNS)
    finally:
        await owner.close()


def _order(number: int) -> ProvisionSubscriber:
    return provision_order(number).model_copy(update={"tenant": TENANT})


_COLUMNS = ("tenant_id", "order_id", "operation", "effect", "subscriber_ref", "digest", "run_id", "status", "result")


def _row(order: ProvisionSubscriber) -> tuple[str, ...]:
    result = OrderResult(
        operation=order.operation,
        tenant=order.tenant,
        order_id=order.order_id,
        subscriber_ref=order.subscriber_ref,
        status=ResultStatus.COMPLETED,
        created=Created(radius_username=f"{order.subscriber_ref}@{TENANT}.lastmile", ipv6_prefix="2001:db8::/56"),
        steps=[StepResult(step=step.name, attempts=1, seconds=0.01) for step in PROVISION.steps],
    )
    recorded = json.dumps(result.model_dump(mode="json"))
    ids = (order.tenant, order.order_id, order.operation, PROVISION.effect, order.subscriber_ref)
    return *ids, order.digest, "bench", result.status, recorded


async def _import(file: Path, environment: dict[str, str]) -> Measured:
    """Return the duration in seconds, and the largest resident set of the process, sampled in short intervals."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastmile.cli", "provision", str(file)),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    ended = asyncio.create_task(process.wait())
    watched = psutil.Process(process.pid)
    most = 0
    while not ended.done():
        try:
            most = max(most, watched.memory_info().rss)
        except psutil.Error:
            break
        await asyncio.wait([ended], timeout=SAMPLE_SECONDS)
    if await ended:
        raise RuntimeError(f"`lastmile provision {file}` ended with exit code {process.returncode}")
    return {"seconds": time.perf_counter() - began, "mb": most / 2**20}
