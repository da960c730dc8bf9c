"""The steps of the orders that change the network profile of a line: the profile, the devices, the account."""

from typing import Any

from lastmile.contract.operations.order_type import verify_line
from lastmile.contract.orders import Operation
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["line_change"]


def line_change(operation: Operation) -> tuple[Step[Any], ...]:
    """Return the steps of an order whose `changes` are fields of the line.

    The profile is the first to change: its constraints refuse what another line has before a device is touched.
    """
    return (
        verify_line(operation),
        Step(
            "change_line",
            "change the network profile",
            CallKind.DATABASE,
            undo="restore_line",
            content=lambda order: (order.changes,),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.NETWORK_PROFILE,),
            facts=("network_profile_id",),
        ),
        Step(
            "change_onu",
            "switch the former ONU off, and the ONU of the changed line on",
            CallKind.DEVICE,
            undo="restore_onu",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.DEVICE,),
        ),
        Step(
            "change_cpe",
            "configure the CPE of the changed line",
            CallKind.DEVICE,
            undo="restore_cpe",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.DEVICE,),
        ),
        Step(
            "update_account",
            "update the user name and the option 82 items, end the sessions of a former user name",
            CallKind.RADIUS,
            undo="restore_account",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.RADIUS_ACCOUNT,),
            facts=("radius_username",),
        ),
    )
