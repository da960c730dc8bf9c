"""The order types, each in one entry: its model, workflow, steps and effect on the line.

The workflows, the client, the commands, the dry run, the metrics and the audit read these entries.
`tests/contract/test_operations.py` follows each entry to every place that depends on it
(docs/development/adding-an-order-type.md).
"""

from collections.abc import Mapping
from typing import Any

from lastmile.contract.operations.change_plan import CHANGE_PLAN
from lastmile.contract.operations.deprovision import DEPROVISION
from lastmile.contract.operations.order_type import LineEffect, OrderType
from lastmile.contract.operations.provision import PROVISION
from lastmile.contract.operations.relocate import RELOCATE
from lastmile.contract.operations.replace_device import REPLACE_DEVICE
from lastmile.contract.operations.replacement import CHANGE_ADDRESSING, RENUMBER
from lastmile.contract.operations.resume import RESUME
from lastmile.contract.operations.rotate_credentials import ROTATE_CREDENTIALS
from lastmile.contract.operations.suspend import SUSPEND
from lastmile.contract.operations.transfer import TRANSFER
from lastmile.contract.operations.update_customer import UPDATE_CUSTOMER
from lastmile.contract.orders import AnyOrder, Operation

__all__ = [
    "CHANGE_ADDRESSING",
    "CHANGE_PLAN",
    "DEPROVISION",
    "OPERATIONS",
    "PROVISION",
    "RELOCATE",
    "RENUMBER",
    "REPLACE_DEVICE",
    "RESUME",
    "ROTATE_CREDENTIALS",
    "STEP_NAMES",
    "SUSPEND",
    "TRANSFER",
    "UPDATE_CUSTOMER",
    "LineEffect",
    "OrderType",
    "operations_that",
    "order_type",
]

OPERATIONS: Mapping[Operation, OrderType[Any]] = {
    entry.operation: entry
    for entry in (
        PROVISION,
        DEPROVISION,
        RENUMBER,
        CHANGE_ADDRESSING,
        UPDATE_CUSTOMER,
        ROTATE_CREDENTIALS,
        REPLACE_DEVICE,
        RELOCATE,
        CHANGE_PLAN,
        TRANSFER,
        SUSPEND,
        RESUME,
    )
}

STEP_NAMES = frozenset(step.name for entry in OPERATIONS.values() for step in entry.steps) | {"close_order"}
"""The steps at which an order can be parked."""


def operations_that(*effects: LineEffect) -> tuple[Operation, ...]:
    """Return the operations with one of these effects on the line."""
    return tuple(operation for operation, entry in OPERATIONS.items() if entry.effect in effects)


def order_type(order: AnyOrder) -> OrderType[Any]:
    """Return the entry of an order."""
    return OPERATIONS[order.operation]
