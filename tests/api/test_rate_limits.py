"""Rate limits: exact for concurrent requests and over processes, true about when to come back, cheap to refuse."""

import asyncio
import sys
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from lastmile.api.rate_limits import Rate, RateClass, RateLimiter, TooManyRequestsError
from lastmile.db import Database

RATE = Rate("test", 100, 3600, burst=10)  # one request in 36 seconds: none more while the test runs

PROCESS = """
import asyncio, sys
from lastmile.api.rate_limits import Rate, RateLimiter, TooManyRequestsError
from lastmile.db import Database

async def main() -> None:
    database = Database(sys.argv[1])
    limiter = RateLimiter(database)
    print("ready", flush=True)
    sys.stdin.readline()
    takes = [limiter.take(Rate("test", 100, 3600, burst=10), "acme", "crm") for _ in range(100)]
    answers = await asyncio.gather(*takes, return_exceptions=True)
    print(sum(not isinstance(answer, TooManyRequestsError) for answer in answers))
    await database.close()

asyncio.run(main())
"""


async def refusal(limiter: RateLimiter, subject: str = "crm") -> TooManyRequestsError:
    with pytest.raises(TooManyRequestsError) as refused:
        await limiter.take(RATE, "acme", subject)
    return refused.value


async def use_up(database: Database, subject: str = "crm") -> None:
    for _ in range(RATE.burst):
        await RateLimiter(database).take(RATE, "acme", subject)


async def test_200_requests_at_once_get_exactly_the_burst(database: Database) -> None:
    # A limiter for each, as if each request came to a process of its own.
    takes = [RateLimiter(database).take(RATE, "acme", "crm") for _ in range(200)]
    answers = await asyncio.gather(*takes, return_exceptions=True)
    allowed = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert sorted(allowance.remaining for allowance in allowed) == list(range(10))
    assert {type(answer) for answer in answers} == {type(allowed[0]), TooManyRequestsError}


async def test_two_processes_share_one_limit(database: Database, owner_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROCESS, owner_url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert sum(int(out) for out, _ in outputs) == RATE.burst


async def test_retry_after_is_true_to_the_second(database: Database, owner: asyncpg.Connection) -> None:
    await use_up(database)
    assert (await refusal(RateLimiter(database))).retry_after == 36
    await owner.execute("UPDATE rate_limits SET idle_at = idle_at - interval '35 seconds'")
    refused = await refusal(RateLimiter(database))
    assert refused.retry_after == 1
    assert str(refused) == (
        "Too many requests of the class test: at most 100 an hour and 10 at once. Try again in 1 seconds."
    )
    await owner.execute("UPDATE rate_limits SET idle_at = idle_at - interval '1 second'")
    assert (await RateLimiter(database).take(RATE, "acme", "crm")).remaining == 0
    await refusal(RateLimiter(database))


async def test_refused_caller_is_refused_without_a_statement_until_then(
    database: Database, owner: asyncpg.Connection
) -> None:
    now = 1000.0
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    limiter = RateLimiter(database, clock=lambda: now, pause=pause)
    await use_up(database)
    assert (await refusal(limiter)).retry_after == 36
    assert pauses == [], "the first refusal is answered at once"
    statements: list[Any] = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *of: statements.append(of))
    now += 30.5
    for _ in range(2000):
        assert (await refusal(limiter)).retry_after <= 6
    assert statements == []
    assert len(pauses) == 2000
    assert min(pauses) >= 0.5
    await limiter.take(RATE, "acme", "other-caller")
    await owner.execute("UPDATE rate_limits SET idle_at = idle_at - interval '36 seconds'")
    now += 5.5
    await limiter.take(RATE, "acme", "crm")
    assert len(statements) == 2


async def test_callers_tenants_and_classes_have_limits_of_their_own(database: Database) -> None:
    await use_up(database)
    limiter = RateLimiter(database)
    await refusal(limiter)
    for tenant, subject in (("acme", "ada"), ("other", "crm"), (None, "crm")):
        assert (await limiter.take(RATE, tenant, subject)).remaining == 9
    assert (await limiter.take(RateClass.SYSTEM.value, "acme", "crm")).remaining == 599


async def test_headers_say_what_is_left(database: Database, owner: asyncpg.Connection) -> None:
    limiter = RateLimiter(database)
    first = await limiter.take(RateClass.STANDARD.value, "acme", "crm")
    assert first.headers == {"RateLimit-Policy": '"standard";q=100;w=60', "RateLimit": '"standard";r=99;t=1'}
    await owner.execute("UPDATE rate_limits SET idle_at = now() + interval '30 seconds'")
    assert (await limiter.take(RateClass.STANDARD.value, "acme", "crm")).headers["RateLimit"] == '"standard";r=49;t=31'
    await use_up(database)
    assert (await refusal(limiter)).allowance.headers["RateLimit"] == '"test";r=0;t=36'


async def test_idle_caller_is_forgotten_by_the_cleanup(database: Database, owner: asyncpg.Connection) -> None:
    from datetime import timedelta

    from lastmile.audit.retention import purge

    await use_up(database, "idle")
    await owner.execute("UPDATE rate_limits SET idle_at = now() - interval '1 second'")
    await use_up(database, "busy")
    async with database.platform() as connection:
        await purge(connection, timedelta(days=365), batch=10)
    assert await owner.fetchval("SELECT count(*) FROM rate_limits") == 1
    await refusal(RateLimiter(database), "busy")
