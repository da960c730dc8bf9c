"""Run the work once for concurrent callers in this process, and share its result."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ["single_flight"]

T = TypeVar("T")

_under_way: dict[Hashable, asyncio.Future[Any]] = {}


async def single_flight(what: Hashable, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work`, or wait for the call with the same `what` that is running; return or raise what that one does.

    Where the running call is cancelled, one of the waiting callers runs its own work.
    """
    while (other := _under_way.get(what)) is not None:
        await asyncio.wait([other])
        if not other.cancelled():
            theirs: T = other.result()
            return theirs
    _under_way[what] = outcome = asyncio.get_running_loop().create_future()
    try:
        result = await work()
    except Exception as failure:
        outcome.set_exception(failure)
        outcome.exception()  # no warning where no caller waits
        raise
    else:
        outcome.set_result(result)
        return result
    finally:
        outcome.cancel()  # without effect unless this call was cancelled
        del _under_way[what]
