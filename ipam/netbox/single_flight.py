"""Callers who want the same work done at the same moment, in one process: one does it for all."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ["single_flight"]

T = TypeVar("T")

_under_way: dict[Hashable, asyncio.Future[Any]] = {}


async def single_flight(what: Hashable, work: Callable[[], Awaitable[T]]) -> T:
    """What comes of `work`, or of somebody else's that is under way already, failures too.

    Where whoever does it is cancelled, one of those who wait takes over.
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
        outcome.exception()  # that nobody waits for it is no mistake
        raise
    else:
        outcome.set_result(result)
        return result
    finally:
        outcome.cancel()  # where it has not ended: we are cancelled
        del _under_way[what]
