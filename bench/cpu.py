"""Processor time of this process and of the servers below it: much less noisy than time on the clock."""

import psutil

from bench.rounds import Measured

__all__ = ["SERVERS", "cpu_seconds"]

SERVERS = ("temporal", "postgres")
"""By the name of their program."""


def cpu_seconds() -> Measured:
    """What each has used so far: `worker` is this process."""
    me = psutil.Process()
    used = {"worker": sum(me.cpu_times()[:2]), **dict.fromkeys(SERVERS, 0.0)}
    for process in me.children(recursive=True):
        try:
            name = process.name()
            if name in SERVERS:
                # With what its children used that have ended: PostgreSQL has a process for each connection.
                used[name] += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return used
