"""Audits of all tenants at once, for the cases that end meanwhile: one costs as much as the audit of one tenant."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.audit.audit import check
from lastmile.db import Database

__all__ = ["SharedAudit"]

PAUSE_SECONDS = 3
"""Between two audits, in which more cases end."""


class SharedAudit:
    """What the audit finds, by tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: dict[str, asyncio.Future[Counter[str]]] = {}
        self._wanted = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(cls, database: Database) -> "AsyncIterator[SharedAudit]":
        audit = cls(database)
        task = asyncio.create_task(audit._run())
        try:
            yield audit
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def findings(self, tenant: str) -> Counter[str]:
        """Return the invariants that the tenant's records break, as an audit finds them that begins after this call."""
        found = self._asked[tenant] = asyncio.get_running_loop().create_future()
        self._wanted.set()
        return await found

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            asked, self._asked = self._asked, {}
            found: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
            try:
                async for violation in check(self._database):
                    found[violation.tenant][violation.invariant.name] += 1
            except Exception as failure:
                for answer in asked.values():
                    if not answer.done():
                        answer.set_exception(failure)
            for tenant, answer in asked.items():
                if not answer.done():
                    answer.set_result(found[tenant])
            await asyncio.sleep(PAUSE_SECONDS)
