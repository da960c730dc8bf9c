"""The steps on customers, subscribers, network profiles and billing services."""

from typing import Any

from activities.base import Activities, done, skipped, step, undone
from activities.messages import StepContext, StepReport
from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.contract.orders import Operation
from lastmile.services.remains import find_line
from lastmile.subscribers import billing, previous_values, records, suspensions
from lastmile.subscribers.line_changes import change_line, changed_fields, restore_line
from lastmile.subscribers.line_states import verify_line
from lastmile.subscribers.transfers import return_line, transfer_line

__all__ = ["RecordActivities"]


class RecordActivities(Activities):
    """The steps and undos on the records of a subscriber."""

    @step
    async def create_customer(self, ref: StepContext, customer: Customer) -> StepReport:
        async with self._order(ref) as connection:
            record = await records.create_customer(connection, ref.tenant, ref.order_id, customer)
        return _made(record, ref, "customer_id", f"customer {customer.ref}").model_copy(
            update={"notes": records.customer_notes(record, customer)}
        )

    @step
    async def delete_customer(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await records.delete_customer(connection, ref.order_id))

    @step
    async def create_subscriber(self, ref: StepContext, customer_ref: str) -> StepReport:
        async with self._order(ref) as connection:
            record = await records.create_subscriber(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, customer_ref
            )
        return _made(record, ref, "subscriber_id", f"subscriber {ref.subscriber_ref}")

    @step
    async def delete_subscriber(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await records.delete_subscriber(connection, ref.subscriber_ref, ref.order_id))

    @step
    async def verify_line(self, ref: StepContext, operation: Operation) -> StepReport:
        async with self._order(ref) as connection:
            record = await verify_line(connection, ref.subscriber_ref, ref.order_id, operation)
        return done(subscriber_id=record.id)

    @step
    async def update_customer(self, ref: StepContext, corrections: dict[str, str]) -> StepReport:
        async with self._order(ref) as connection:
            customer_id, before = await records.update_customer(connection, ref.subscriber_ref, corrections)
            value = {"customer_id": customer_id, "before": before, "after": corrections}
            await self._keep(connection, ref, "update_customer", value)
        return done(customer_id=customer_id)

    @step
    async def restore_customer(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            kept = await previous_values.take(connection, ref.order_id, "update_customer")
            if kept is not None:
                await records.restore_customer(connection, kept["customer_id"], kept["before"], kept["after"])
        return undone(kept is not None)

    @step
    async def verify_subscriber(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            record = await find_line(connection, ref.tenant, ref.subscriber_ref, ref.order_id)
        if record is None:
            return done().model_copy(update={"reason": "no line is in service: removes what earlier orders left"})
        return done(subscriber_id=record.id)

    @step
    async def archive_subscriber(self, ref: StepContext, reason: str) -> StepReport:
        async with self._order(ref) as connection:
            await billing.end_service(connection, ref.subscriber_ref, ref.order_id)
            await suspensions.end_suspension(connection, ref.subscriber_ref, ref.order_id)
            await records.archive_subscriber(connection, ref.subscriber_ref, ref.order_id, reason)
        return done()

    @step
    async def create_network_profile(self, ref: StepContext, line: Line) -> StepReport:
        async with self._order(ref) as connection:
            subscriber = await records.read_subscriber(connection, ref.subscriber_ref)
            record = await records.create_network_profile(connection, ref.tenant, ref.order_id, subscriber, line)
        return _made(record, ref, "network_profile_id", "the network profile")

    @step
    async def change_line(self, ref: StepContext, changes: dict[str, Any]) -> StepReport:
        async with self._order(ref) as connection:
            profile_id, before, after = await change_line(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, changes
            )
        reason = "" if changed_fields(before, after) else "the line has these values already"
        return done(network_profile_id=profile_id).model_copy(update={"reason": reason})

    @step
    async def restore_line(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await restore_line(connection, ref.order_id, ref.subscriber_ref))

    @step
    async def transfer_line(self, ref: StepContext, customer_ref: str) -> StepReport:
        async with self._order(ref) as connection:
            before = await transfer_line(connection, ref.tenant, ref.order_id, ref.subscriber_ref, customer_ref)
        reason = f"the line belongs to customer {customer_ref} already" if before == customer_ref else ""
        return done().model_copy(update={"reason": reason})

    @step
    async def return_line(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await return_line(connection, ref.order_id, ref.subscriber_ref))

    @step
    async def delete_network_profile(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            gone = await records.delete_network_profile(
                connection, ref.subscriber_ref, ref.order_id if ref.undo else None
            )
        return undone(gone) if ref.undo else done()

    @step
    async def create_billing_service(self, ref: StepContext, plan: ServicePlan) -> StepReport:
        async with self._order(ref) as connection:
            subscriber = await records.read_subscriber(connection, ref.subscriber_ref)
            record = await billing.create_service(
                connection, ref.tenant, ref.order_id, subscriber, ref.subscriber_ref, plan
            )
        return _made(record, ref, "billing_service_id", f"the service on plan {plan.name}")

    @step
    async def delete_billing_service(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            return undone(await billing.cancel_service(connection, ref.subscriber_ref, ref.order_id))

    @step
    async def suspend_billing_service(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            if ref.undo:
                kept = await previous_values.take(connection, ref.order_id, "resume_billing_service")
                if kept is not None:
                    await billing.suspend_service_again(connection, ref.subscriber_ref, ref.order_id, **kept)
                return undone(kept is not None)
            changed = await billing.suspend_service(connection, ref.subscriber_ref, ref.order_id)
        return done() if changed else skipped("no service is being charged")

    @step
    async def resume_billing_service(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            if ref.undo:
                return undone(await billing.resume_service(connection, ref.subscriber_ref, ref.order_id))
            suspended_by = await billing.resume_suspended_service(connection, ref.subscriber_ref, ref.order_id)
            if suspended_by is not None:
                await self._keep(connection, ref, "resume_billing_service", {"suspended_by": suspended_by})
        return done() if suspended_by is not None else skipped("no service is suspended")


def _made(record: records.CreatedRecord, ref: StepContext, field: str, what: str) -> StepReport:
    if record.created_by_order == ref.order_id:
        return done(**{field: record.id})
    return done(**{field: record.id}).model_copy(
        update={"reason": f"{what} exists since order {record.created_by_order}"}
    )
