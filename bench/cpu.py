"""The processor time of this process and of its servers, which varies much less than elapsed time."""

import psutil

from bench.rounds import Measured

__all__ = ["SERVERS", "cpu_seconds"]

SERVERS = ("temporal", "postgres")
"""The names of the servers' programs."""


def cpu_seconds() -> Measured:
    """Return the processor seconds of each so far; `worker` is this process."""
    me = psutil.Process()
    used = {"worker": sum(me.cpu_times()[:2]), **dict.fromkeys(SERVERS, 0.0)}
    for process in me.children(recursive=True):
        try:
            name = process.name()
            if name in SERVERS:
                # The times include ended children, since PostgreSQL has a process for each connection.
                used[name] += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return used
