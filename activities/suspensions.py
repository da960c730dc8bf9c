"""The steps on the suspension of a line: its record, and the RADIUS account with its live sessions."""

from dataclasses import replace
from datetime import datetime

from activities.account_moves import AccountMoveActivities
from activities.base import beyond_database, done, skipped, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.db import TenantConnection
from lastmile.radius.groups import Group
from lastmile.subscribers import suspensions

__all__ = ["SuspensionActivities"]


class SuspensionActivities(AccountMoveActivities):
    """The steps and undos on the suspension of a line."""

    @step
    async def record_suspension(
        self, ref: StepContext, reason: str, mode: SuspensionMode, until: datetime | None
    ) -> StepReport:
        async with self._order(ref) as connection:
            await suspensions.record_suspension(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, reason=reason, mode=mode, resume_at=until
            )
        return done()

    @step
    async def delete_suspension(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await suspensions.delete_suspension(connection, ref.subscriber_ref, ref.order_id))

    @step
    async def end_suspension(self, ref: StepContext, suspended_by: str | None) -> StepReport:
        async with self._order(ref) as connection:
            await suspensions.end_suspension(connection, ref.subscriber_ref, ref.order_id, suspended_by)
        return done()

    @step
    async def reopen_suspension(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await suspensions.reopen_suspension(connection, ref.subscriber_ref, ref.order_id))

    @step
    async def suspend_radius_account(self, ref: StepContext) -> StepReport:
        """Move the account to the suspended group of its plan, and tell the live sessions."""
        if ref.undo:
            return await self._move_back(ref, "resume_radius_account")
        async with self._order(ref) as connection:
            found = await suspensions.read_suspension(connection, ref.subscriber_ref, ref.order_id)
            assert found is not None  # recorded by the step before
        return await self._move_to(ref, "suspend_radius_account", found.mode)

    @step
    async def resume_radius_account(self, ref: StepContext) -> StepReport:
        """Move the account to the group of its plan, and tell the live sessions."""
        if ref.undo:
            return await self._move_back(ref, "suspend_radius_account")
        return await self._move_to(ref, "resume_radius_account", None)

    async def _move_to(self, ref: StepContext, step_name: str, mode: SuspensionMode | None) -> StepReport:
        move = await self._move(ref, step_name, lambda group: replace(group, suspended=mode), Refusal.DISCONNECT)
        if move is None:
            return skipped("the subscriber has no RADIUS account")
        return warned("; ".join(move.problems)) if move.problems else done()

    async def _prepare(self, connection: TenantConnection, user: str, before: Group, after: Group) -> bool:
        # A session survives a block only if its NAS was silent. Such a session still has the attributes of its plan.
        if before.suspended is SuspensionMode.BLOCK and after.suspended is None:
            return False
        beyond_database("tell the live sessions")
        return True
