"""Processes that are forks of one process, which has imported everything and started nothing.

The imports of a worker need 1.8 s of processor time, and a fork needs some milliseconds. The fork server starts with
the first fork.
"""

import multiprocessing

__all__ = ["processes"]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "lastmile.worker",
        "tests.support.accepting_process",
        "tests.support.faults",
        "tests.support.forked_api",
        "tests.support.forked_worker",
        "tests.support.step_workers",
    ]
)
