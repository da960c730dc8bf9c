"""What a change of plan and a suspension have in common: the account moves to another group, and the sessions follow.

The undo takes the same way back.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from activities.base import Activities, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.suspension import Refusal
from lastmile.db import Database, TenantConnection
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.groups import Group
from lastmile.radius.membership import move_account, read_group
from lastmile.services.sessions import Sessions
from lastmile.subscribers import previous_values

__all__ = ["AccountMove", "AccountMoveActivities"]


@dataclass(frozen=True, slots=True)
class AccountMove:
    """The move of an account: the group that this order replaced, the new one, and what sessions were not told."""

    username: str
    before: Group
    after: Group
    problems: list[str]


class AccountMoveActivities(Activities, ABC):
    """The base of activities that move an account; `longest` is the longest possible duration of a session."""

    def __init__(self, database: Database, authorization: DynamicAuthorization, longest: timedelta) -> None:
        super().__init__(database)
        self._sessions = Sessions(database, authorization, longest)
        self._longest = longest

    @abstractmethod
    async def _prepare(self, connection: TenantConnection, user: str, before: Group, after: Group) -> bool:
        """Return whether the live sessions must be told, and leave the group of steps in that case."""

    async def _move(
        self, ref: StepContext, step_name: str, target: Callable[[Group], Group], on_refusal: Refusal
    ) -> AccountMove | None:
        """Move the account from its group to the `target` of it, tell the sessions, and keep the way for the undo.

        Return None if there is no account.
        """
        async with self._order(ref) as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            found = await read_group(connection, user)
            if found is None:
                return None
            after = target(found)
            kept = await previous_values.keep_way(
                *(connection, ref.tenant, ref.order_id, ref.subscriber_ref, step_name),
                *(found.name, after.name),
                on_refusal=on_refusal,
            )
            # A repeated attempt finds the account in the new group already, and tells the sessions once more.
            before = Group.parse(kept["was"])
            assert before is not None  # the name of a group that the account was in
            tells = await self._prepare(connection, user, before, after)
            await move_account(connection, user, after)
        problems = await self._sessions.change(ref.tenant, user, before, after, on_refusal) if tells else []
        return AccountMove(user, before, after, problems)

    async def _move_back(self, ref: StepContext, step_name: str) -> StepReport:
        """Undo `_move`: return the account to its former group, and tell the sessions."""
        async with self._order(ref) as connection:
            kept = await previous_values.find(connection, ref.order_id, step_name)
            before, after = (Group.parse(kept["before"]), Group.parse(kept["after"])) if kept else (None, None)
            if kept is None or before is None or after is None:
                return undone(False)
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            tells = await self._prepare(connection, user, after, before)
            await move_account(connection, user, before)
        problems: list[str] = []
        if tells:
            problems = await self._sessions.change(ref.tenant, user, after, before, Refusal(kept["on_refusal"]))
        async with self._order(ref) as connection:
            await previous_values.take(connection, ref.order_id, step_name)
        return warned("; ".join(problems)) if problems else undone(True)
