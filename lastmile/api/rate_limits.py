"""Rate limits, exact over all processes: the generic cell rate algorithm (GCRA) as one statement in PostgreSQL.

A caller that is refused is refused without a statement until the time at which it may send again: nothing that another
process does can make that time earlier. If it goes on, it is answered late: a program that repeats its request at once
would otherwise keep the process busy, and slow other callers.
"""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sqlalchemy import Boolean, Column, DateTime, LargeBinary, Table

from lastmile.api.remembered import Remembered
from lastmile.db import Database, metadata
from lastmile.db.direct import DirectStatement
from lastmile.errors import LastmileError

__all__ = ["Allowance", "Rate", "RateClass", "RateLimiter", "TooManyRequestsError", "rate_limits"]

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("caller_sha256", LargeBinary, primary_key=True),
    Column("idle_at", DateTime(timezone=True), nullable=False),
    Column("allowed", Boolean, nullable=False),
    prefixes=["UNLOGGED"],
)

PAUSE = (0.5, 1.5)
"""Seconds before a caller that goes on after a refusal is refused again: random, so that many refusals of one caller
do not come at once."""

_PERIODS = {60: "a minute", 3600: "an hour"}


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of requests."""

    name: str
    limit: int
    """Requests in a period."""
    period: int
    """Seconds."""
    burst: int
    """Requests that a caller may send at once after a pause."""

    @property
    def interval(self) -> float:
        """The seconds after which a caller may send one more request."""
        return self.period / self.limit

    @property
    def words(self) -> str:
        """The limit as a text, such as `100 a minute`."""
        return f"{self.limit:,} {_PERIODS[self.period]}"


class RateClass(Enum):
    """The rate classes of routes. Each caller has its own limit in each class."""

    STANDARD = Rate("standard", 100, 60, burst=100)
    DASHBOARD = Rate("dashboard", 60, 60, burst=60)
    SHARES = Rate("shares", 1000, 60, burst=1000)
    """All callers of public pages together."""
    SHARES_OF_ADDRESS = Rate("shares-of-address", 60, 60, burst=60)
    BULK = Rate("bulk", 10, 3600, burst=10)
    BULK_ALLOCATION = Rate("bulk-allocation", 5, 3600, burst=1)
    ALLOCATION = Rate("allocation", 100, 3600, burst=10)
    HOSTS = Rate("hosts", 1000, 3600, burst=10)
    NETWORKS = Rate("networks", 10, 3600, burst=2)
    REGIONS = Rate("regions", 100, 3600, burst=2)
    SYSTEM = Rate("system", 600, 60, burst=600)
    """Every request with an API key of kind `system`, instead of the class of the route."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still send in a rate class."""

    rate: Rate
    remaining: int
    """Requests that the caller may send now."""
    reset: int
    """Seconds until the caller has its whole burst again; after a refusal, until it may send one request."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"{self.rate.name}";q={self.rate.limit};w={self.rate.period}',
            "RateLimit": f'"{self.rate.name}";r={self.remaining};t={self.reset}',
        }


class TooManyRequestsError(LastmileError):
    """The caller has sent more requests than its rate class allows (429)."""

    def __init__(self, rate: Rate, retry_after: int) -> None:
        most = f" and {rate.burst} at once" if rate.burst < rate.limit else ""
        super().__init__(
            f"Too many requests of the class {rate.name}: at most {rate.words}{most}. "
            f"Try again in {retry_after} seconds."
        )
        self.retry_after = retry_after
        """Seconds after which a request is allowed, if the caller sends no other one meanwhile."""
        self.allowance = Allowance(rate, 0, retry_after)


# A caller may send when its backlog, which shrinks as time passes, has room for one more interval within the window.
# Concurrent statements for one caller lock its row one after the other. Each looks at the clock when it has the lock:
# `now()` would be the time at which it began to wait.
_TAKE = DirectStatement(
    """
    INSERT INTO rate_limits AS r (caller_sha256, idle_at, allowed)
    VALUES (:caller, clock_timestamp() + CAST(:interval AS interval), true)
    ON CONFLICT (caller_sha256) DO UPDATE SET (allowed, idle_at) = (
        SELECT fits, CASE WHEN fits THEN next ELSE r.idle_at END
        FROM (SELECT clock_timestamp() AS at) AS clock,
             LATERAL (SELECT greatest(r.idle_at, at) + CAST(:interval AS interval) AS next) AS one_more,
             LATERAL (SELECT next <= at + CAST(:window AS interval) AS fits) AS judged
    )
    RETURNING allowed, idle_at - clock_timestamp() AS backlog
    """
)


class RateLimiter:
    """Counts the requests of callers."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause = pause
        self._refused_until: Remembered[float] = Remembered(clock)

    async def take(self, rate: Rate, tenant: str | None, subject: str) -> Allowance:
        """Count a request of the caller.

        Raises:
            TooManyRequestsError: the caller must wait.
        """
        caller = hashlib.sha256("\0".join((rate.name, tenant or "", subject)).encode()).digest()
        if until := self._refused_until.get(caller):
            await self._pause(random.uniform(*PAUSE))
            raise TooManyRequestsError(rate, max(1, math.ceil(until - self._clock())))
        given = {
            "caller": caller,
            "interval": timedelta(seconds=rate.interval),
            "window": timedelta(seconds=rate.interval * rate.burst),
        }
        async with self._database.autocommit() as connection:
            (row,) = await _TAKE.all(connection, given)
        backlog = max(row.backlog.total_seconds(), 0.0)
        if not row.allowed:
            wait = max(backlog - rate.interval * (rate.burst - 1), 0.001)
            self._refused_until.put(caller, self._clock() + wait, wait)
            raise TooManyRequestsError(rate, math.ceil(wait))
        remaining = math.floor(rate.burst - backlog / rate.interval)
        return Allowance(rate, remaining, math.ceil(backlog))
