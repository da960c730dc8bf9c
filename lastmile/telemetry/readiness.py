"""The readiness of a worker: its dependencies answer, and it polls for tasks."""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

__all__ = ["CHECK_TIMEOUT_SECONDS", "Check", "Readiness", "Report"]

Check = Callable[[], Awaitable[str]]
"""A check of one dependency. It returns the problem in a few words, or an empty text, or raises an exception."""

CHECK_TIMEOUT_SECONDS = 2
"""The time-out of each check, shorter than the usual time-outs of probes."""
CACHE_SECONDS = 1
"""Probes within this time get the same report."""


@dataclass(frozen=True, slots=True)
class Report:
    """The finding of each check: `ok`, or the problem."""

    findings: Mapping[str, str]

    @property
    def ready(self) -> bool:
        """Return whether every check is `ok`."""
        return set(self.findings.values()) <= {"ok"}


class Readiness:
    """The checks of a worker. They run concurrently on the worker's event loop, each with its own time-out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, checks: Mapping[str, Check]) -> None:
        self._loop = loop
        self._checks = checks
        self._lock = threading.Lock()
        self._report = Report({})
        self._checked_at = float("-inf")

    def report(self) -> Report:
        """Return the current report. The caller must be in another thread than the event loop."""
        with self._lock:
            if time.monotonic() - self._checked_at > CACHE_SECONDS:
                self._report = self._check()
                self._checked_at = time.monotonic()
            return self._report

    def _check(self) -> Report:
        checks = self._run()
        try:
            future = asyncio.run_coroutine_threadsafe(checks, self._loop)
        except RuntimeError:  # the event loop is closed, since the process ends
            checks.close()
            return Report(dict.fromkeys(self._checks, "the worker has stopped"))
        try:
            return future.result(CHECK_TIMEOUT_SECONDS + 1)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            return Report(dict.fromkeys(self._checks, "the worker's event loop does not answer"))

    async def _run(self) -> Report:
        findings = await asyncio.gather(*map(_finding, self._checks.values()))
        return Report(dict(zip(self._checks, findings, strict=True)))


async def _finding(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await check() or "ok"
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS} s"
    except Exception as failure:  # the message of a driver's error may contain names and addresses
        return f"no answer ({type(failure).__name__})"
