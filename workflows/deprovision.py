"""Deprovision: nine steps that take a line down; from the revocation of its addresses on, only forward."""

from temporalio import workflow

from lastmile.contract import DeprovisionSubscriber, OrderResult
from workflows.operator_controls import Steerable
from workflows.saga import CallKind, Saga, Step

__all__ = ["STEPS", "Deprovision"]

STEPS: tuple[Step[DeprovisionSubscriber], ...] = (
    Step("verify_subscriber", "find the subscriber", CallKind.DATABASE, gate=True),
    Step("suspend_billing_service", "suspend billing", CallKind.DATABASE, undo="resume_billing_service"),
    Step("deactivate_onu", "deactivate the ONU", CallKind.DEVICE, undo="activate_onu"),
    Step("unconfigure_cpe", "remove the CPE's configuration", CallKind.DEVICE, undo="configure_cpe"),
    Step("revoke_ipv6_lifecycle", "end the session, revoke the addresses", CallKind.RADIUS, pivot=True),
    Step("release_ip_address", "release the addresses", CallKind.IPAM),
    Step("delete_radius_account", "delete the RADIUS account", CallKind.DATABASE),
    Step("delete_network_profile", "delete the network profile", CallKind.DATABASE),
    Step(
        "archive_subscriber",
        "archive the subscriber, end billing",
        CallKind.DATABASE,
        content=lambda order: (order.reason,),
    ),
)


@workflow.defn(name="Deprovision")
class Deprovision(Steerable):
    @workflow.init
    def __init__(self, order: DeprovisionSubscriber | None = None) -> None:
        self._saga = Saga(order, STEPS)

    @workflow.run
    async def run(self, order: DeprovisionSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
