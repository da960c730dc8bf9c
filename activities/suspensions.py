"""The steps on the suspension of a line: its record, and the RADIUS account with its live sessions."""

from dataclasses import replace
from datetime import datetime, timedelta

from activities.base import Activities, beyond_database, done, skipped, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.db import Database
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.groups import Group
from lastmile.radius.membership import move_account, read_group
from lastmile.services.sessions import Sessions
from lastmile.subscribers import previous_values, suspensions

__all__ = ["SuspensionActivities"]


class SuspensionActivities(Activities):
    """The steps and undos on the suspension of a line; `longest` is the longest possible duration of a session."""

    def __init__(self, database: Database, authorization: DynamicAuthorization, longest: timedelta) -> None:
        super().__init__(database)
        self._sessions = Sessions(database, authorization, longest)

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
            return await self._restore(ref, "resume_radius_account")
        async with self._order(ref) as connection:
            found = await suspensions.read_suspension(connection, ref.subscriber_ref, ref.order_id)
            assert found is not None  # recorded by the step before
        return await self._move(ref, "suspend_radius_account", found.mode)

    @step
    async def resume_radius_account(self, ref: StepContext) -> StepReport:
        """Move the account to the group of its plan, and tell the live sessions."""
        if ref.undo:
            return await self._restore(ref, "suspend_radius_account")
        return await self._move(ref, "resume_radius_account", None)

    async def _move(self, ref: StepContext, step_name: str, mode: SuspensionMode | None) -> StepReport:
        """Move the account to the group of its plan in this mode, and keep its former group for the undo."""
        async with self._order(ref) as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            group = await read_group(connection, user)
            if group is None:
                return skipped("the subscriber has no RADIUS account")
            after = replace(group, suspended=mode)
            kept = await previous_values.keep_way(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, step_name, group.name, after.name
            )
            await move_account(connection, user, after)
            beyond_database("tell the live sessions")
        problems = await self._tell(ref, user, kept["was"], kept["after"])
        return warned("; ".join(problems)) if problems else done()

    async def _restore(self, ref: StepContext, step_name: str) -> StepReport:
        """Undo `_move`: return the account to its former group."""
        async with self._order(ref) as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            kept = await previous_values.find(connection, ref.order_id, step_name)
            group = None if kept is None else Group.parse(kept["before"])
            if kept is None or group is None:
                return undone(False)
            await move_account(connection, user, group)
            beyond_database("tell the live sessions")
        problems = await self._tell(ref, user, kept["after"], kept["before"])
        async with self._order(ref) as connection:
            await previous_values.take(connection, ref.order_id, step_name)
        return warned("; ".join(problems)) if problems else undone(True)

    async def _tell(self, ref: StepContext, user: str, before: str, after: str) -> list[str]:
        """Tell the live sessions that the account has changed its group. Return the problems, as text."""
        was, now = Group.parse(before), Group.parse(after)
        if was is None or now is None:
            return []
        # A session survives a block only if its NAS was silent. Such a session still has the attributes of its plan.
        if was.suspended is SuspensionMode.BLOCK and now.suspended is None:
            return []
        return await self._sessions.change(ref.tenant, user, was, now, Refusal.DISCONNECT)
