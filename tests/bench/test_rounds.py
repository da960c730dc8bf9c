"""Tests of measurement rounds."""

import asyncio

from bench.rounds import Measured, Turn, medians, rate


async def test_medians_alternate_the_contestants() -> None:
    order: list[str] = []
    values = {"ours": iter([1.0, 9.0, 2.0]), "peer": iter([3.0, 3.0, 100.0])}

    def turn(name: str) -> Turn:
        async def take() -> Measured:
            order.append(name)
            return {"rate": next(values[name])}

        return take

    found = await medians(3, {name: turn(name) for name in values})
    assert order == ["ours", "peer"] * 3
    assert found == {"ours": {"rate": 2.0}, "peer": {"rate": 3.0}}


async def test_rate_runs_the_given_number_with_the_given_concurrency() -> None:
    done = running = most = 0

    async def work() -> None:
        nonlocal done, running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done += 1

    assert await rate(work, 100, 7) > 0
    assert (done, most) == (100, 7)
