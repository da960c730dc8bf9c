"""The rate at which the outbox records prefixes in NetBox, next to bare POSTs, and NetBox's latency meanwhile."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv6Network
from statistics import median
from typing import Any

import requests

from bench.measurements import Measurement, Target, at_least
from bench.netbox_pools import LENGTH, TENANT
from bench.rounds import Measured, Turn, Work, medians, rate
from ipam.lifecycle import State
from ipam.netbox import NetBox, Stamp
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.delegated.blocks import delegated_pools
from ipam.netbox.delegated.outbox import IN_FLIGHT, backlog
from lastmile.db import Database

__all__ = ["measure"]

ASIDE = IPv6Network("2001:db8:f000::/36")
"""The pool of the bare POSTs."""
LOOK_SECONDS = 0.05


async def measure(
    database: Database, netbox: NetBox, token: str, allocating: Work, *, number: int, rounds: int
) -> list[Measurement]:
    """Measure rounds of `number` prefixes. Before a round, NetBox has every record."""
    url = netbox.wire.url

    maintenance = BlockMaintenance(database, netbox, timedelta())
    await maintenance.run_once()  # looks around, once a minute

    async def reporting() -> Measured:
        await rate(allocating, number, IN_FLIGHT)
        return await _watched(url, token, number, _report_all(database, maintenance))

    turns: dict[str, Turn] = {"lastmile": reporting}
    with _Bare(url, token) as bare:
        turns["bare"] = lambda: _watched(url, token, number, bare.create(number))
        found = await medians(rounds, turns)
    ours, peer = found["lastmile"], found["bare"]
    posts = f"bare POSTs, {IN_FLIGHT} in flight"
    return [
        Measurement(
            "prefixes recorded in NetBox by the outbox", ours["rate"], "/s", posts, peer["rate"], at_least(0.9)
        ),
        Measurement("NetBox's /api/status/ meanwhile, median", ours["median"], "ms", posts, peer["median"]),
        Measurement(
            "NetBox's /api/status/ meanwhile, longest",
            ours["longest"],
            "ms",
            posts,
            peer["longest"],
            Target("value", "≤", 100),
        ),
    ]


async def _watched(url: str, token: str, number: int, work: Awaitable[None]) -> Measured:
    with _watching(url, token) as milliseconds:
        began = time.perf_counter()
        await work
        seconds = time.perf_counter() - began
    return {"rate": number / seconds, "median": median(milliseconds), "longest": max(milliseconds)}


async def _report_all(database: Database, maintenance: BlockMaintenance) -> None:
    """Record all waiting prefixes, as a worker does, but without pauses."""
    while await _waiting(database):
        if not await maintenance.run_once():
            raise RuntimeError("Cannot report to NetBox: see the warnings above")


async def _waiting(database: Database) -> bool:
    async with database.platform() as connection:
        return any([(await backlog(connection, pool)).waiting for pool in await delegated_pools(connection)])


class _Bare:
    """A client that only creates prefixes, closed by `with`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/api/ipam/prefixes/"
        self._session = _session(token)
        self._threads = ThreadPoolExecutor(IN_FLIGHT)
        self._prefixes = ASIDE.subnets(new_prefix=LENGTH)

    def __enter__(self) -> "_Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._session.close()

    async def create(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        prefixes = [next(self._prefixes) for _ in range(number)]
        await asyncio.gather(*(loop.run_in_executor(self._threads, self._create, prefix) for prefix in prefixes))

    def _create(self, prefix: IPv6Network) -> None:
        ref = f"B-{prefix}"
        stamp = Stamp(
            key=f"{TENANT}/{ref}/ipv6_pd/B",
            subscriber_ref=ref,
            state=State.ALLOCATED,
            tenant=TENANT,
            description=f"is {ref}'s (Lastmile)",
        )
        body: dict[str, Any] = stamp.body(new=True) | {"prefix": str(prefix), "vrf": None}
        self._session.post(self._url, json=body, timeout=30).raise_for_status()


@contextmanager
def _watching(url: str, token: str) -> Iterator[list[float]]:
    """Provide the durations, in ms, of requests that an operator would make to NetBox meanwhile."""
    milliseconds: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        with _session(token) as session:
            while not (milliseconds and ended.wait(LOOK_SECONDS)):
                began = time.perf_counter()
                session.get(f"{url}/api/status/", timeout=30).raise_for_status()
                milliseconds.append((time.perf_counter() - began) * 1000)

    watcher = threading.Thread(target=watch, name="status")
    watcher.start()
    try:
        yield milliseconds
    finally:
        ended.set()
        watcher.join()


def _session(token: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # the user's proxy does not apply to the loopback address
    session.headers["Authorization"] = f"Token {token}"
    return session
