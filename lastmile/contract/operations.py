"""The order types, each in one entry: its model, workflow, steps and effect on the line.

The workflows, the client, the commands, the dry run, the metrics and the audit read these entries.
`tests/contract/test_operations.py` follows each entry to every place that depends on it
(docs/development/adding-an-order-type.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from lastmile.contract.orders import AnyOrder, DeprovisionSubscriber, Operation, Order, ProvisionSubscriber
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["DEPROVISION", "OPERATIONS", "PROVISION", "LineEffect", "OrderType", "operations_that", "order_type"]

OrderT = TypeVar("OrderT", bound=Order)


class LineEffect(StrEnum):
    """What a finished order has done to the subscriber's line."""

    CREATES = "creates"
    CHANGES = "changes"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class OrderType(Generic[OrderT]):
    """One order type."""

    operation: Operation
    model: type[OrderT]
    """What callers send."""
    workflow: str
    """The workflow type in Temporal."""
    summary: str
    """What the order does, for people."""
    effect: LineEffect
    steps: tuple[Step[OrderT], ...]
    invariants: tuple[str, ...]
    """The audit's invariants that a finished order of this type must satisfy."""


_ADDRESS_FACTS = (*ADDRESS_FIELDS.values(), "vrf")

PROVISION: OrderType[ProvisionSubscriber] = OrderType(
    operation=Operation.PROVISION,
    model=ProvisionSubscriber,
    workflow="Provision",
    summary="Turn an order into a working line.",
    effect=LineEffect.CREATES,
    invariants=("left_behind", "incomplete", "taken_away", "not_active", "blocked_in_service"),
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
            content=lambda order: (order.plan,),
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
            facts=_ADDRESS_FACTS,
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

DEPROVISION: OrderType[DeprovisionSubscriber] = OrderType(
    operation=Operation.DEPROVISION,
    model=DeprovisionSubscriber,
    workflow="Deprovision",
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
            facts=_ADDRESS_FACTS,
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
            changes=(RecordKind.SUBSCRIBER, RecordKind.BILLING_SERVICE),
        ),
    ),
)

OPERATIONS: Mapping[Operation, OrderType[Any]] = {entry.operation: entry for entry in (PROVISION, DEPROVISION)}


def operations_that(*effects: LineEffect) -> tuple[Operation, ...]:
    """Return the operations with one of these effects on the line."""
    return tuple(operation for operation, entry in OPERATIONS.items() if entry.effect in effects)


def order_type(order: AnyOrder) -> OrderType[Any]:
    """Return the entry of an order."""
    return OPERATIONS[order.operation]
