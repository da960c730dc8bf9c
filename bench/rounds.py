"""Measurement in rounds: contestants take turns, and the median counts, since the load of a machine varies."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

__all__ = ["Measured", "Turn", "Work", "each", "medians", "rate"]

Work = Callable[[], Awaitable[object]]
"""One piece of work: an order, an allocation, a request."""
Measured = dict[str, float]
"""The results of a turn, by name."""
Turn = Callable[[], Awaitable[Measured]]


async def medians(rounds: int, turns: Mapping[str, Turn]) -> dict[str, Measured]:
    """Run each contestant once in every round, and return the medians of each."""
    seen: dict[str, list[Measured]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            seen[name].append(await turn())
    return {name: {key: median(m[key] for m in measured) for key in measured[0]} for name, measured in seen.items()}


async def rate(work: Work, count: int, in_flight: int) -> float:
    """Return the pieces of work per second, with `in_flight` of them at a time."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def each(work: Work, count: int) -> float:
    """Return the median duration of one piece of work in seconds, without concurrent work."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
