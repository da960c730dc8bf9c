"""The threads of the Temporal SDK at the end of a program.

The SDK delivers a reply from a thread of its own: the thread wakes the event loop, and needs the interpreter once more
to return. An interpreter that ends in this moment aborts: `Fatal Python error: PyGILState_Release`, or a segmentation
fault.
"""

import asyncio
import atexit
import contextlib
import sys
import threading

__all__ = ["wait_at_exit", "wait_for_threads"]

PAUSE_SECONDS = 0.001

# Another library's threads may run Python code for ever.
PATIENCE_SECONDS = 1


async def wait_for_threads() -> None:
    """Wait until no thread that Python did not start runs Python code; for a second at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.sleep(PAUSE_SECONDS)
            while _foreign_threads():  # noqa: ASYNC110 -- the threads belong to the SDK, so no event reports their end
                await asyncio.sleep(PAUSE_SECONDS)


def wait_at_exit() -> None:
    """Have the interpreter wait for these threads before it ends, also for calls that `asyncio.run` has cancelled."""
    atexit.unregister(_wait)
    atexit.register(_wait)


def _wait() -> None:
    asyncio.run(wait_for_threads())


def _foreign_threads() -> set[int]:
    return sys._current_frames().keys() - {thread.ident for thread in threading.enumerate()}
