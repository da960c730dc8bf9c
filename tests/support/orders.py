"""Orders to send, and the records that they create."""

import asyncio
from typing import Any

import asyncpg
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.failure.v1 import Failure
from temporalio.client import ScheduleActionExecutionStartWorkflow, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.orders import Lastmile, OrderRun, ScheduledOrder
from lastmile.contract import (
    AnyOrder,
    ChangeAddressing,
    ChangePlan,
    DeprovisionSubscriber,
    Progress,
    ProvisionSubscriber,
    RelocateLine,
    Renumber,
    ReplaceDevice,
    ResumeSubscriber,
    RotateCredentials,
    RunStatus,
    SuspendSubscriber,
    TransferLine,
    UpdateCustomer,
)
from lastmile.contract.addressing import Addressing
from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.devstack.nas import ScriptedNas

__all__ = [
    "NEW_PLAN",
    "PLAN",
    "Orders",
    "api_body",
    "cancel_requested",
    "dispatched",
    "log_in",
    "outcomes",
    "parked",
    "quarantine_seconds",
    "read_progress",
    "retrying",
    "until_refused",
    "what_is_there",
]

PLAN = ServicePlan(name="fiber-500", download_kbps=500_000, upload_kbps=250_000, price_ref="P-500")
NEW_PLAN = ServicePlan(name="giga", download_kbps=1_000_000, upload_kbps=500_000, price_ref="P-1000")

_IN_TABLES = {
    "customers": "SELECT to_jsonb(t) FROM customers t",
    "subscribers": "SELECT to_jsonb(t) || jsonb_build_object('customer', c.ref) FROM subscribers t"
    " JOIN customers c ON c.id = t.customer_id",
    "previous_values": "SELECT to_jsonb(t) FROM previous_values t",
    "network_profiles": "SELECT to_jsonb(t) FROM network_profiles t",
    "billing_services": "SELECT to_jsonb(t) FROM billing_services t",
    # The last change of a device is history.
    "devices": "SELECT to_jsonb(t) - 'updated_at' - 'updated_by_order' FROM devices t",
    "open suspensions": "SELECT to_jsonb(t) FROM suspensions t WHERE ended_at IS NULL",
    "radcheck": "SELECT to_jsonb(t) FROM radcheck t",
    "radreply": "SELECT to_jsonb(t) FROM radreply t",
    "radusergroup": "SELECT to_jsonb(t) FROM radusergroup t",
    # The time of the last change of state is history.
    "held delegations": "SELECT to_jsonb(t) - 'state_since' FROM delegations t WHERE released_at IS NULL",
    "taken slots": "SELECT to_jsonb(t) || jsonb_build_object('replaced_by_order', d.replaced_by_order)"
    " FROM slots t LEFT JOIN delegations d ON d.id = t.delegation_id WHERE delegation_id IS NOT NULL",
    "free slots after quarantine": "SELECT to_jsonb(t) FROM slots t"
    " WHERE delegation_id IS NULL AND last_holder IS NOT NULL AND free_at <= now()",
}


def api_body(order: AnyOrder, **more: Any) -> dict[str, Any]:
    """Return the order as a caller of the REST API writes it."""
    return order.model_dump(mode="json", exclude_defaults=True) | {"operation": order.operation.value} | more


class Orders:
    """Orders for subscribers of one test: its `ref` is unique."""

    def __init__(self, ref: str, tenant: str = "acme") -> None:
        self.ref = ref
        self.tenant = tenant

    def provision(self, order_id: str = "O-1", nth: int = 0, **changes: Any) -> ProvisionSubscriber:
        """Return an order for the n-th line of the test, each with its own devices."""
        values: dict[str, Any] = {
            "tenant": self.tenant,
            "order_id": order_id,
            "subscriber_ref": f"{self.ref}-{nth}" if nth else self.ref,
            "customer": Customer(ref="C-1", name="Ada Example", email="ada@example.net"),
            "plan": PLAN,
            "line": Line(
                connection_type="ftth",
                onu_serial=f"ACME{nth:08X}",
                olt="olt-1",
                pon_port="1/1/1",
                cpe_mac=f"00:1a:2b:00:{nth >> 8:02x}:{nth & 255:02x}",
                s_vlan=100 + nth // 3000,
                c_vlan=200 + nth % 3000,
            ),
        }
        return ProvisionSubscriber(**(values | changes))

    def of(self, operation: str, order_id: str) -> AnyOrder:
        """Return a typical order of the operation for the subscriber's line."""
        order: AnyOrder = getattr(self, operation)(order_id)
        return order

    def renumber(self, order_id: str = "O-2", **changes: Any) -> Renumber:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref, "overlap_hours": 0}
        return Renumber(**(values | changes))

    def change_addressing(self, order_id: str = "O-2", **addressing: Any) -> ChangeAddressing:
        """Return an order that takes the IPv6 prefix away, or asks for this addressing."""
        return ChangeAddressing(
            tenant=self.tenant,
            order_id=order_id,
            subscriber_ref=self.ref,
            addressing=Addressing(**(addressing or {"enable_ipv6": False})),
        )

    def update_customer(self, order_id: str = "O-2", **changes: Any) -> UpdateCustomer:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref, "name": "Ada Lovelace"}
        return UpdateCustomer(**(values | changes))

    def rotate_credentials(self, order_id: str = "O-2", **changes: Any) -> RotateCredentials:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref}
        return RotateCredentials(**(values | changes))

    def replace_device(self, order_id: str = "O-2", **changes: Any) -> ReplaceDevice:
        values = changes or {"onu_serial": "ACME0000FFFF", "cpe_mac": "00:1a:2b:00:ff:ff"}
        return ReplaceDevice(tenant=self.tenant, order_id=order_id, subscriber_ref=self.ref, **values)

    def relocate(self, order_id: str = "O-2", **changes: Any) -> RelocateLine:
        values = changes or {"pon_port": "1/1/2", "c_vlan": 300}
        return RelocateLine(tenant=self.tenant, order_id=order_id, subscriber_ref=self.ref, **values)

    def change_plan(self, order_id: str = "O-2", **changes: Any) -> ChangePlan:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref, "plan": NEW_PLAN}
        return ChangePlan(**(values | changes))

    def transfer(self, order_id: str = "O-2", customer: str = "C-2", **changes: Any) -> TransferLine:
        who = Customer(**({"ref": customer, "name": "Grace Example"} | changes))
        return TransferLine(tenant=self.tenant, order_id=order_id, subscriber_ref=self.ref, customer=who)

    def suspend(self, order_id: str = "O-3", **changes: Any) -> SuspendSubscriber:
        values = {
            "tenant": self.tenant,
            "order_id": order_id,
            "subscriber_ref": self.ref,
            "reason": "non-payment",
            "mode": "walled_garden",
        }
        return SuspendSubscriber(**(values | changes))

    def resume(self, order_id: str = "O-4", **changes: Any) -> ResumeSubscriber:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref}
        return ResumeSubscriber(**(values | changes))

    def deprovision(self, order_id: str = "O-9", **changes: Any) -> DeprovisionSubscriber:
        values = {"tenant": self.tenant, "order_id": order_id, "subscriber_ref": self.ref, "reason": "moved away"}
        return DeprovisionSubscriber(**(values | changes))


async def what_is_there(owner: asyncpg.Connection, tenant: str | None = None) -> dict[str, list[str]]:
    """Return every row that orders create, of one tenant or all; without histories, which only grow."""
    there = {}
    for name, query in _IN_TABLES.items():
        mine = f"SELECT t FROM ({query}) rows (t) WHERE $1::text IS NULL OR t ->> 'tenant_id' = $1"
        there[name] = sorted(row["t"] for row in await owner.fetch(mine, tenant))
    return there


def outcomes(run: Any) -> dict[str, str | None]:
    """Return each step's outcome, of a result or a progress."""
    return {step.step: step.outcome and step.outcome.value for step in run.steps}


async def read_progress(run: OrderRun) -> Progress | None:
    """Return the run's progress; None where the query failed because its worker is busy."""
    try:
        progress: Progress = await run.handle.query("progress", result_type=Progress)
    except RPCError as failure:
        if failure.status not in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.CANCELLED):
            raise
        return None
    return progress


async def parked(run: OrderRun) -> Progress:
    """Wait until the run is parked; return its progress."""
    while True:
        progress = await read_progress(run)
        if progress is not None and progress.status is RunStatus.PARKED:
            return progress
        await asyncio.sleep(0.02)  # a query cannot be waited for


async def retrying(run: OrderRun, activity: str) -> Failure:
    """Wait until the activity is retried; return the failure of its last attempt."""
    while True:
        for pending in (await run.handle.describe()).raw_description.pending_activities:
            if pending.activity_type.name == activity and pending.HasField("last_failure"):
                return pending.last_failure
        await asyncio.sleep(0.02)  # the server sends no notification


async def cancel_requested(run: OrderRun, activity: str) -> None:
    """Wait until the server has a cancel request for the running activity."""
    while True:
        for pending in (await run.handle.describe()).raw_description.pending_activities:
            asked = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
            if asked and pending.activity_type.name == activity:
                return
        await asyncio.sleep(0.02)  # the server sends no notification


async def dispatched(lastmile: Lastmile, held: ScheduledOrder) -> WorkflowHandle[Any, Any]:
    """Wait until the order's Schedule has started a run; return the run."""
    schedule = lastmile.client.get_schedule_handle(held.schedule)
    while True:
        if actions := (await schedule.describe()).info.recent_actions:
            break
        await asyncio.sleep(0.02)  # a Schedule cannot be waited for
    action = actions[-1].action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    return lastmile.client.get_workflow_handle(action.workflow_id, run_id=action.first_execution_run_id)


async def until_refused(dispatch: WorkflowHandle[Any, Any]) -> None:
    """Wait until the start was refused because another operation of the subscriber runs."""
    async for event in dispatch.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
            return


async def log_in(
    owner: asyncpg.Connection, orders: Orders, session: str, nas: ScriptedNas | str, user: str = ""
) -> None:
    """Record a session as FreeRADIUS's accounting does; `user`: not that of a generated user name."""
    address = nas if isinstance(nas, str) else nas.nas.address
    user = user or f"{orders.ref}@acme.lastmile"
    if isinstance(nas, ScriptedNas):
        nas.sessions[session] = {"User-Name": user}
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
        " VALUES ($1, $1, $2, $3, now())",
        session,
        user,
        address,
    )


async def quarantine_seconds(owner: asyncpg.Connection) -> float:
    return float(
        await owner.fetchval("SELECT extract(epoch FROM free_at - now()) FROM slots WHERE last_holder IS NOT NULL")
    )
