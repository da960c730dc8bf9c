"""Concurrent callers of the same work share one run."""

import asyncio

import pytest

from ipam.netbox.single_flight import single_flight


class Work:
    """Done when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.end = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        await self.end.wait()
        if self.failure:
            raise self.failure
        return self.begun


async def begun(work: Work, callers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(single_flight("this", work)) for _ in range(callers)]
    await turns()
    return tasks


async def turns() -> None:
    """Everybody gets as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_concurrent_callers_share_one_run() -> None:
    work = Work()
    tasks = await begun(work, 5)
    assert work.begun == 1
    work.end.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await single_flight("this", work) == 2


async def test_other_work_goes_its_own_way() -> None:
    work, other = Work(), Work()
    [task] = await begun(work, 1)
    other.end.set()
    assert await single_flight("that", other) == 1
    work.end.set()
    assert await task == 1


async def test_failure_is_raised_for_every_caller() -> None:
    work = Work()
    work.failure = RuntimeError("no")
    tasks = await begun(work, 3)
    work.end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == [work.failure] * 3
    work.failure = None
    assert await single_flight("this", work) == 2


async def test_cancelled_runner_is_replaced_by_another_caller() -> None:
    work = Work()
    first, *others = await begun(work, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await turns()
    work.end.set()
    assert await asyncio.gather(*others) == [2, 2]


async def test_cancelled_waiter_does_not_affect_the_others() -> None:
    work = Work()
    first, second = await begun(work, 2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    work.end.set()
    assert await first == 1
