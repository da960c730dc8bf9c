"""A tenant whose requests are refused by its rate limit 2 000 times a second, beside the requests of another tenant."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import httpx

from bench.measurements import Measurement
from bench.rounds import Measured, Turn, medians
from lastmile.db import Database
from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.devstack.lastmile_process import Api
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.secret import ensure_secret
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key
from lastmile.subscribers.tenants import add_tenant

__all__ = ["measure"]

RATE = 2000
ROUNDS = 3
REQUESTS = 150
"""Requests of the other tenant in a turn, one after the other: below the rate limit of a key."""
_NUMBERS = count(1)


async def measure(directory: Path, owner_url: str) -> list[Measurement]:
    """Measure with one process of the API, in a migrated database."""
    url = await make_login(owner_url, "lastmile", ensure_secret(directory, "lastmile"), TENANT_ROLE, PLATFORM_ROLE)
    port = Ports(directory).claim("refusals")
    environment = {
        "DATABASE_URL": url,
        "TEMPORAL_ADDRESS": f"{HOST}:1",  # lists need no Temporal
        "LASTMILE_API_HOST": HOST,
        "LASTMILE_API_PORT": str(port),
        "LASTMILE_API_METRICS_PORT": "0",
    }
    database = Database(url)
    try:
        async with database.platform() as platform:
            for tenant in ("loud", "quiet"):
                await add_tenant(platform, tenant, tenant)
        async with Api(directory, environment, port=port, grace_seconds=5):
            refused: list[float] = []
            turns = {
                "alone": _turn(database, port),
                "beside": _beside(database, port, refused),
            }
            await medians(1, turns)  # caches, connections, prepared statements
            refused.clear()
            found = await medians(ROUNDS, turns)
    finally:
        await database.close()
    what = "list of another tenant, 1 caller"
    return [
        Measurement("requests refused by a rate limit", median(refused), "/s"),
        *(
            Measurement(f"{what}, {name}", found["beside"][name], "ms", "without refused ones", found["alone"][name])
            for name in ("median", "95th percentile")
        ),
    ]


def _turn(database: Database, port: int) -> Turn:
    async def turn() -> Measured:
        seconds = []
        headers = {"Authorization": f"Bearer {await _key(database, 'quiet', PrincipalKind.SYSTEM)}"}
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", headers=headers, trust_env=False) as client:
            for _ in range(REQUESTS):
                answer = await client.get("/v1/orders")
                answer.raise_for_status()
                seconds.append(answer.elapsed.total_seconds())
        return {"median": 1000 * median(seconds), "95th percentile": 1000 * quantiles(seconds, n=20)[-1]}

    return turn


def _beside(database: Database, port: int, refused: list[float]) -> Turn:
    alone = _turn(database, port)

    async def turn() -> Measured:
        async with _flood(port, await _key(database, "loud", PrincipalKind.PERSON), refused):
            return await alone()

    return turn


@asynccontextmanager
async def _flood(port: int, key: str, refused: list[float]) -> AsyncIterator[None]:
    """Have a process of its own send requests. Its key may send 100 at once, and then 100 a minute."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.flood", str(port), key, str(RATE)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
        while (await client.get("/v1/orders", headers={"Authorization": f"Bearer {key}"})).status_code != 429:
            pass
    try:
        yield
    finally:
        output, _ = await process.communicate(b"")
        refused.append(json.loads(output)["per_second"])


async def _key(database: Database, tenant: str, kind: PrincipalKind) -> str:
    new = NewApiKey(name=f"{tenant}-{next(_NUMBERS)}", tenant=tenant, permissions=frozenset({"orders:read"}), kind=kind)
    return (await create_api_key(database, new, actor="")).text
