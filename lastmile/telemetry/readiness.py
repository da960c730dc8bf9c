"""Whether a worker can do work now: what it depends on answers, and it polls for tasks."""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

__all__ = ["PATIENCE_SECONDS", "Check", "Readiness", "Report"]

Check = Callable[[], Awaitable[str]]
"""Looks at one dependency, and returns what is wrong in a few words; empty where all is well. May raise instead."""

PATIENCE_SECONDS = 2
"""For each check; probes commonly wait for some seconds."""
FRESH_SECONDS = 1
"""Probes within this time get the same report."""


@dataclass(frozen=True, slots=True)
class Report:
    """What each check found: `ok`, or what is wrong."""

    findings: Mapping[str, str]

    @property
    def ready(self) -> bool:
        return set(self.findings.values()) <= {"ok"}


class Readiness:
    """Runs the checks at the same time, each with its own time-out, on the worker's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, checks: Mapping[str, Check]) -> None:
        self._loop = loop
        self._checks = checks
        self._lock = threading.Lock()
        self._report = Report({})
        self._checked_at = float("-inf")

    def report(self) -> Report:
        """The report of this moment. Called from a thread other than the loop's."""
        with self._lock:
            if time.monotonic() - self._checked_at > FRESH_SECONDS:
                self._report = self._ask()
                self._checked_at = time.monotonic()
            return self._report

    def _ask(self) -> Report:
        asking = self._run()
        try:
            asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the loop is closed: the process ends
            asking.close()
            return Report(dict.fromkeys(self._checks, "the worker has stopped"))
        try:
            return asked.result(PATIENCE_SECONDS + 1)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            return Report(dict.fromkeys(self._checks, "the worker's event loop does not answer"))

    async def _run(self) -> Report:
        findings = await asyncio.gather(*map(_finding, self._checks.values()))
        return Report(dict(zip(self._checks, findings, strict=True)))


async def _finding(check: Check) -> str:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await check() or "ok"
    except TimeoutError:
        return f"no answer within {PATIENCE_SECONDS} s"
    except Exception as failure:  # the words of a driver may hold names and addresses
        return f"no answer ({type(failure).__name__})"
