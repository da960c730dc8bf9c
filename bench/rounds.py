"""Contestants take turns, round by round, and the median of the rounds counts: a machine is noisy for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

__all__ = ["Measured", "Turn", "Work", "each", "medians", "rate"]

Work = Callable[[], Awaitable[object]]
"""One piece of work: an order, an allocation, a request."""
Measured = dict[str, float]
"""What came of a turn, by name."""
Turn = Callable[[], Awaitable[Measured]]


async def medians(rounds: int, turns: Mapping[str, Turn]) -> dict[str, Measured]:
    """Let everybody have a turn in every round. Returns each one's medians."""
    seen: dict[str, list[Measured]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            seen[name].append(await turn())
    return {name: {key: median(m[key] for m in measured) for key in measured[0]} for name, measured in seen.items()}


async def rate(work: Work, count: int, in_flight: int) -> float:
    """Pieces of work per second, `in_flight` of them at a time."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def each(work: Work, count: int) -> float:
    """Median seconds of one piece of work, with nothing else going on."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
