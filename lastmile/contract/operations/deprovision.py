"""The deprovision order."""

from lastmile.contract.operations.order_type import ADDRESS_FACTS, LineEffect, OrderType
from lastmile.contract.orders import DeprovisionSubscriber, Operation
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["DEPROVISION"]

DEPROVISION: OrderType[DeprovisionSubscriber] = OrderType(
    operation=Operation.DEPROVISION,
    model=DeprovisionSubscriber,
    summary="Terminate a subscriber's service and release everything that the line held.",
    effect=LineEffect.ENDS,
    invariants=("left_suspended", "not_terminated", "not_released", "billed_without_line"),
    steps=(
        Step("verify_subscriber", "find the subscriber", CallKind.DATABASE, gate=True, facts=("subscriber_id",)),
        Step(
            "suspend_billing_service",
            "suspend billing",
            CallKind.DATABASE,
            undo="resume_billing_service",
            changes=(RecordKind.BILLING_SERVICE,),
        ),
        Step(
            "deactivate_onu",
            "deactivate the ONU",
            CallKind.DEVICE,
            undo="activate_onu",
            changes=(RecordKind.DEVICE,),
        ),
        Step(
            "unconfigure_cpe",
            "remove the CPE's configuration",
            CallKind.DEVICE,
            undo="configure_cpe",
            changes=(RecordKind.DEVICE,),
        ),
        Step(
            "revoke_ipv6_lifecycle",
            "end the session, revoke the addresses",
            CallKind.RADIUS,
            changes=(RecordKind.PREFIX, RecordKind.RADIUS_ACCOUNT),
            pivot=True,
        ),
        Step(
            "release_ip_address",
            "release the addresses",
            CallKind.IPAM,
            changes=(RecordKind.PREFIX,),
            facts=ADDRESS_FACTS,
        ),
        Step(
            "delete_radius_account",
            "delete the RADIUS account",
            CallKind.DATABASE,
            changes=(RecordKind.RADIUS_ACCOUNT,),
        ),
        Step(
            "delete_network_profile",
            "delete the network profile",
            CallKind.DATABASE,
            changes=(RecordKind.NETWORK_PROFILE,),
        ),
        Step(
            "archive_subscriber",
            "archive the subscriber, end billing",
            CallKind.DATABASE,
            content=lambda order: (order.reason,),
            changes=(RecordKind.SUBSCRIBER, RecordKind.BILLING_SERVICE, RecordKind.SUSPENSION),
        ),
    ),
)
