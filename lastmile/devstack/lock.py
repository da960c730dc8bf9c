"""The lock that allows one stack per state directory."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from lastmile.errors import LastmileError

__all__ = ["StackRunningError", "stack_lock"]

_POLL_SECONDS = 0.1


class StackRunningError(LastmileError):
    """Another stack uses this state directory."""


@asynccontextmanager
async def stack_lock(directory: Path) -> AsyncIterator[None]:
    """Hold the lock of the stack in `directory`.

    The stack and the guards of its servers share the lock. If a stack was killed, wait until its servers have stopped.

    Raises:
        StackRunningError: a running stack holds the lock.
    """
    with (directory / "lock").open("a+") as file:
        while not _try_lock(file):
            file.seek(0)
            if (holder := file.read().strip()) and _is_alive(int(holder)):
                raise StackRunningError(
                    f"Another stack is running in {directory} (process {holder}). Use that stack, stop it with Ctrl-C "
                    f"or `kill {holder}`, or set LASTMILE_STATE_DIR to another directory."
                )
            await asyncio.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.seek(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        os.set_inheritable(file.fileno(), True)
        yield


def _try_lock(file: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
