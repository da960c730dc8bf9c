"""The renumber and change_addressing orders: both replace addresses, with the same steps around the allocation."""

from typing import Any

from lastmile.contract.operations.order_type import ADDRESS_FACTS, LineEffect, OrderType, verify_line
from lastmile.contract.orders import ChangeAddressing, Operation, Renumber
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["CHANGE_ADDRESSING", "RENUMBER"]

_INVARIANTS = ("second_delegation", "endless_overlap", "taken_away", "not_active", "not_released")
_END_OF_OVERLAP: tuple[Step[Any], ...] = (
    Step(
        "revoke_replaced_addresses",
        "end the sessions of the replaced addresses, revoke them",
        CallKind.RADIUS,
        changes=(RecordKind.PREFIX,),
    ),
    Step(
        "release_replaced_addresses",
        "release the replaced addresses",
        CallKind.IPAM,
        changes=(RecordKind.PREFIX,),
    ),
)

RENUMBER: OrderType[Renumber] = OrderType(
    operation=Operation.RENUMBER,
    model=Renumber,
    summary="Give the line another prefix of one purpose, and keep the old one beside it for an overlap.",
    effect=LineEffect.CHANGES,
    invariants=_INVARIANTS,
    steps=(
        verify_line(Operation.RENUMBER),
        Step(
            "begin_replacement",
            "mark the prefix that is replaced",
            CallKind.DATABASE,
            undo="cancel_replacement",
            content=lambda order: (order.purpose,),
            changes=(RecordKind.PREFIX,),
        ),
        Step(
            "allocate_replacement",
            "allocate the new prefix beside the old one",
            CallKind.IPAM,
            undo="release_ip_address",
            content=lambda order: (order.purpose, order.pool),
            creates=(RecordKind.PREFIX,),
            facts=ADDRESS_FACTS,
        ),
        Step(
            "switch_addresses",
            "assign the new addresses in RADIUS, tell the sessions; then wait for the end of the overlap",
            CallKind.RADIUS,
            content=lambda order: (order.overlap_hours,),
            changes=(RecordKind.PREFIX,),
            pivot=True,
        ),
        *_END_OF_OVERLAP,
    ),
)

CHANGE_ADDRESSING: OrderType[ChangeAddressing] = OrderType(
    operation=Operation.CHANGE_ADDRESSING,
    model=ChangeAddressing,
    summary="Change the addresses of a line: add, change or remove IPv6 and the static IPv4 address.",
    effect=LineEffect.CHANGES,
    invariants=_INVARIANTS,
    steps=(
        verify_line(Operation.CHANGE_ADDRESSING),
        Step(
            "begin_replacement",
            "mark the addresses that do not fit",
            CallKind.DATABASE,
            undo="cancel_replacement",
            content=lambda order: (order.addressing,),
            changes=(RecordKind.PREFIX,),
        ),
        Step(
            "allocate_ip_address",
            "allocate the new addresses beside the old ones",
            CallKind.IPAM,
            undo="release_ip_address",
            content=lambda order: (order.addressing,),
            creates=(RecordKind.PREFIX,),
            facts=ADDRESS_FACTS,
        ),
        Step(
            "switch_addresses",
            "assign the new addresses in RADIUS, tell the sessions",
            CallKind.RADIUS,
            content=lambda _: (0,),
            changes=(RecordKind.PREFIX,),
            pivot=True,
        ),
        *_END_OF_OVERLAP,
    ),
)
