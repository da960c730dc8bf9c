"""The provision order."""

from lastmile.contract.line_states import LineState
from lastmile.contract.operations.order_type import ADDRESS_FACTS, LineEffect, OrderType
from lastmile.contract.orders import Operation, ProvisionSubscriber
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["PROVISION"]

PROVISION: OrderType[ProvisionSubscriber] = OrderType(
    operation=Operation.PROVISION,
    model=ProvisionSubscriber,
    summary="Turn an order into a working line.",
    effect=LineEffect.CREATES,
    invariants=("left_behind", "incomplete", "taken_away", "not_active", "blocked_in_service", "other_plan"),
    refused_in={LineState.SUSPENDED: "Resume the line first."},
    steps=(
        Step(
            "create_customer",
            "create the customer",
            CallKind.DATABASE,
            undo="delete_customer",
            content=lambda order: (order.customer,),
            creates=(RecordKind.CUSTOMER,),
            facts=("customer_id",),
        ),
        Step(
            "create_subscriber",
            "create the subscriber",
            CallKind.DATABASE,
            undo="delete_subscriber",
            content=lambda order: (order.customer.ref,),
            creates=(RecordKind.SUBSCRIBER,),
            facts=("subscriber_id",),
        ),
        Step(
            "create_network_profile",
            "create the network profile",
            CallKind.DATABASE,
            undo="delete_network_profile",
            content=lambda order: (order.line,),
            creates=(RecordKind.NETWORK_PROFILE,),
            facts=("network_profile_id",),
        ),
        Step(
            "create_radius_account",
            "create the RADIUS account",
            CallKind.DATABASE,
            undo="delete_radius_account",
            content=lambda order: (order.plan, order.line, order.password_ref),
            creates=(RecordKind.RADIUS_ACCOUNT,),
            facts=("radius_username",),
        ),
        Step(
            "allocate_ip_address",
            "allocate the addresses",
            CallKind.IPAM,
            undo="release_ip_address",
            content=lambda order: (order.addressing,),
            creates=(RecordKind.PREFIX,),
            facts=ADDRESS_FACTS,
        ),
        Step(
            "activate_ipv6_lifecycle",
            "activate the addresses, in RADIUS too",
            CallKind.RADIUS,
            undo="revoke_ipv6_lifecycle",
            changes=(RecordKind.PREFIX,),
            best_effort=True,
        ),
        Step(
            "activate_onu",
            "activate the ONU",
            CallKind.DEVICE,
            undo="deactivate_onu",
            creates=(RecordKind.DEVICE,),
        ),
        Step(
            "configure_cpe",
            "configure the CPE",
            CallKind.DEVICE,
            undo="unconfigure_cpe",
            creates=(RecordKind.DEVICE,),
        ),
        Step(
            "create_billing_service",
            "start billing",
            CallKind.DATABASE,
            undo="delete_billing_service",
            content=lambda order: (order.plan,),
            creates=(RecordKind.BILLING_SERVICE,),
            facts=("billing_service_id",),
        ),
    ),
)
