"""The steps on RADIUS accounts."""

from activities.base import Activities, done, step, undone
from activities.messages import StepContext, StepReport
from lastmile.contract.lines import Line, ServicePlan
from lastmile.radius import accounts
from lastmile.radius.escaping import unescaped

__all__ = ["AccountActivities"]


class AccountActivities(Activities):
    """The steps and undos on the RADIUS account of a subscriber."""

    @step
    async def create_radius_account(self, ref: StepContext, plan: ServicePlan, line: Line) -> StepReport:
        async with self._order(ref) as connection:
            account = await accounts.create_account(
                connection,
                ref.tenant,
                ref.order_id,
                ref.subscriber_ref,
                line,
                plan=plan.name,
                download_kbps=plan.download_kbps,
                upload_kbps=plan.upload_kbps,
            )
        report = done(radius_username=unescaped(account.username))
        if account.created_by_order == ref.order_id:
            return report
        return report.model_copy(update={"reason": f"the account exists since order {account.created_by_order}"})

    @step
    async def delete_radius_account(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            gone = await accounts.delete_account(connection, user, ref.order_id if ref.undo else None)
        return undone(gone) if ref.undo else done()
