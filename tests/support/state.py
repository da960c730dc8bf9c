"""Directories for the servers of a test session, in memory where there is room.

Each test has a database of its own, a copy of some 300 files. A copy costs 75 ms of processor time on a disk's file
system, and 20 ms in memory.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["remove_abandoned", "state_directory"]

_MEMORY = Path("/dev/shm")
_PREFIX = "lastmile-tests-"
_ROOM = 4 << 30
"""Bytes for the servers of a few sessions; a container often has 64 MB."""


@contextmanager
def state_directory() -> Iterator[Path]:
    """Yield a locked directory that other logins may enter; delete it at the end."""
    in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_MEMORY if in_memory else None) as directory:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            Path(directory).chmod(0o755)
            yield Path(directory)
        finally:
            os.close(descriptor)


def remove_abandoned() -> None:
    """Delete the directories in memory of killed sessions: their locks are free."""
    for directory in _MEMORY.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another login's, or locked
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)
