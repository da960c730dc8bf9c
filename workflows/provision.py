"""Provision: nine steps that turn an order into a working line."""

from temporalio import workflow

from lastmile.contract import OrderResult, ProvisionSubscriber
from workflows.operator_controls import Steerable
from workflows.saga import CallKind, Saga, Step

__all__ = ["STEPS", "Provision"]

STEPS: tuple[Step[ProvisionSubscriber], ...] = (
    Step(
        "create_customer",
        "create the customer",
        CallKind.DATABASE,
        undo="delete_customer",
        content=lambda order: (order.customer,),
    ),
    Step(
        "create_subscriber",
        "create the subscriber",
        CallKind.DATABASE,
        undo="delete_subscriber",
        content=lambda order: (order.customer.ref,),
    ),
    Step(
        "create_network_profile",
        "create the network profile",
        CallKind.DATABASE,
        undo="delete_network_profile",
        content=lambda order: (order.line,),
    ),
    Step(
        "create_radius_account",
        "create the RADIUS account",
        CallKind.DATABASE,
        undo="delete_radius_account",
        content=lambda order: (order.plan,),
    ),
    Step(
        "allocate_ip_address",
        "allocate the addresses",
        CallKind.IPAM,
        undo="release_ip_address",
        content=lambda order: (order.addressing,),
    ),
    Step(
        "activate_ipv6_lifecycle",
        "activate the addresses, in RADIUS too",
        CallKind.RADIUS,
        undo="revoke_ipv6_lifecycle",
        best_effort=True,
    ),
    Step("activate_onu", "activate the ONU", CallKind.DEVICE, undo="deactivate_onu"),
    Step("configure_cpe", "configure the CPE", CallKind.DEVICE, undo="unconfigure_cpe"),
    Step(
        "create_billing_service",
        "start billing",
        CallKind.DATABASE,
        undo="delete_billing_service",
        content=lambda order: (order.plan,),
    ),
)


@workflow.defn(name="Provision")
class Provision(Steerable):
    @workflow.init
    def __init__(self, order: ProvisionSubscriber | None = None) -> None:
        self._saga = Saga(order, STEPS)

    @workflow.run
    async def run(self, order: ProvisionSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
