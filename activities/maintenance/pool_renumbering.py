"""The activities of the renumbering of a pool: count its lines, and find the next ones. They change nothing."""

from datetime import UTC, datetime

from activities.base import Activities, maintenance_activity
from lastmile.contract.pool_renumbering import PoolLines, PoolLinesQuery, RenumberingTurn, TurnReport
from lastmile.services.pool_renumbering import count_lines, find_ended, find_next

__all__ = ["PoolRenumberingActivities"]


class PoolRenumberingActivities(Activities):
    @maintenance_activity
    async def count_pool_lines(self, query: PoolLinesQuery) -> PoolLines:
        """Count the lines that hold a prefix of the pool."""
        async with self._database.platform() as connection:
            return await count_lines(connection, query.pool_id, query.since)

    @maintenance_activity
    async def find_lines_to_renumber(self, turn: RenumberingTurn) -> TurnReport:
        """Return what became of the orders in flight, and, while the window is open, orders for the next lines.

        The window is computed here: a workflow that is replayed must not depend on the time zone database.
        """
        request, now = turn.request, datetime.now(UTC)
        opens_at = request.window.next_open(now) if request.window else now
        async with self._database.platform() as connection:
            ended = await find_ended(connection, turn.in_flight)
            if opens_at > now:
                return TurnReport(ended=ended, after=turn.after, opens_at=opens_at)
            if not turn.most:
                return TurnReport(ended=ended, after=turn.after)
            found = await find_next(connection, request, since=turn.since, after=turn.after, most=turn.most + 1)
        lines = found[: turn.most]
        return TurnReport(
            ended=ended,
            lines=lines,
            after=lines[-1].delegation_id if lines else turn.after,
            complete=len(found) <= turn.most,
        )
