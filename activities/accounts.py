"""The steps on RADIUS accounts."""

from datetime import timedelta

from activities.base import Activities, beyond_database, done, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.lines import Line, ServicePlan
from lastmile.db import Database, TenantConnection
from lastmile.encryption.keys import KeyRing
from lastmile.radius import accounts, given_passwords, passwords
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.errors import GivenPasswordError
from lastmile.radius.escaping import unescaped
from lastmile.radius.logins import stored_username
from lastmile.services.sessions import Sessions
from lastmile.subscribers import previous_values
from lastmile.subscribers.line_changes import read_line_before
from lastmile.subscribers.records import read_line

__all__ = ["AccountActivities"]

_PASSWORD, _ACCOUNT = "replace_password", "update_account"


class AccountActivities(Activities):
    """The steps and undos on the RADIUS account of a subscriber; `longest` is the longest possible session."""

    def __init__(
        self,
        database: Database,
        authorization: DynamicAuthorization,
        longest: timedelta,
        keys: KeyRing | None = None,
    ) -> None:
        """`keys` decrypt the passwords that orders give."""
        super().__init__(database)
        self._sessions = Sessions(database, authorization, longest)
        self._keys = keys

    @step
    async def create_radius_account(
        self, ref: StepContext, plan: ServicePlan, line: Line, password_ref: str | None
    ) -> StepReport:
        async with self._order(ref) as connection:
            given = await self._take_password(connection, password_ref)
            account = await accounts.create_account(
                connection,
                ref.tenant,
                ref.order_id,
                ref.subscriber_ref,
                line,
                password=given,
                plan=plan.name,
                download_kbps=plan.download_kbps,
                upload_kbps=plan.upload_kbps,
            )
            if password_ref and given is None and account.made_now:
                raise _password_is_gone(ref)
        report = done(radius_username=unescaped(account.username))
        if account.created_by_order == ref.order_id:
            return report
        return report.model_copy(update={"reason": f"the account exists since order {account.created_by_order}"})

    @step
    async def replace_password(self, ref: StepContext, password_ref: str | None) -> StepReport:
        async with self._order(ref) as connection:
            given = await self._take_password(connection, password_ref)
            if await previous_values.find(connection, ref.order_id, _PASSWORD) is not None:
                user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
                return done(radius_username=unescaped(user))
            if password_ref and given is None:
                raise _password_is_gone(ref)
            user, before = await passwords.replace_password(connection, ref.tenant, ref.subscriber_ref, given)
            await self._keep(connection, ref, _PASSWORD, {"password": before})
        return done(radius_username=unescaped(user))

    @step
    async def restore_password(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            kept = await previous_values.take(connection, ref.order_id, _PASSWORD)
            if kept is not None:
                await passwords.replace_password(connection, ref.tenant, ref.subscriber_ref, kept["password"])
        return undone(kept is not None)

    @step
    async def delete_radius_account(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            gone = await accounts.delete_account(connection, user, ref.order_id if ref.undo else None)
        return undone(gone) if ref.undo else done()

    @step
    async def update_account(self, ref: StepContext) -> StepReport:
        """Give the account the user name and the option 82 items of its changed line.

        Sessions under the former user name end here.
        """
        async with self._order(ref) as connection:
            line = await read_line(connection, ref.subscriber_ref)
            assert line is not None  # change_line has read it
            before, after = await accounts.follow_line(connection, ref.tenant, ref.subscriber_ref, line)
            await self._keep(connection, ref, _ACCOUNT, {"username": before})
            # A repeated attempt, and an order that takes over a lost one, find the account renamed already.
            values = await previous_values.kept_by_every_order(connection, ref.subscriber_ref, _ACCOUNT)
            former = _former([before, *(kept["username"] for kept in values)], after)
        report = done(radius_username=unescaped(after))
        if not former:
            return report
        words = f"the user name is {unescaped(after)}, and was {', '.join(map(unescaped, former))}"
        problems = await self._end_sessions(ref, former)
        if problems:
            return warned("; ".join([words, *problems]), **report.facts)
        return report.model_copy(update={"reason": words})

    @step
    async def restore_account(self, ref: StepContext) -> StepReport:
        """Undo `update_account`, and end the sessions under the user name of the changed line."""
        async with self._order(ref) as connection:
            kept = await previous_values.find(connection, ref.order_id, _ACCOUNT)
            changed = await read_line(connection, ref.subscriber_ref)
            line = await read_line_before(connection, ref.order_id)
            if kept is None or line is None or changed is None:
                return undone(False)
            before, after = await accounts.follow_line(connection, ref.tenant, ref.subscriber_ref, line)
            # A repeated attempt finds the account restored already, but the line still changed.
            former = _former([before, stored_username(ref.tenant, ref.subscriber_ref, changed)], after)
        problems = await self._end_sessions(ref, former)
        async with self._order(ref) as connection:
            await previous_values.take(connection, ref.order_id, _ACCOUNT)
        return warned("; ".join(problems)) if problems else undone(True)

    async def _take_password(self, connection: TenantConnection, password_ref: str | None) -> str | None:
        """Return the password that the order gives, and forget it. None: the order gives none, or it was taken."""
        return await given_passwords.take(connection, self._keys, password_ref) if password_ref else None

    async def _end_sessions(self, ref: StepContext, users: list[str]) -> list[str]:
        """End the sessions under these user names. Return what is in doubt, as text."""
        problems = [problem for user in users for problem in await self._sessions.disconnect(ref.tenant, user)]
        return [*problems, "later orders of the line look for such a session, too"] if problems else []


def _former(users: list[str], present: str) -> list[str]:
    """Return the user names other than the present one, and leave the group of steps if there are any."""
    former = sorted({*users} - {present})
    if former:
        beyond_database("end the sessions of the former user name")
    return former


def _password_is_gone(ref: StepContext) -> GivenPasswordError:
    return GivenPasswordError(
        f"The password of order {ref.order_id} is not stored any more. Send the order again with the password."
    )
