"""What the rehearsals of all steps share: the plan that they write, and how they show an address."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ipam.delegations import Delegation
from lastmile.contract import Order
from lastmile.db import TenantConnection
from lastmile.fields.phrases import in_vrf

__all__ = ["Rehearsal", "Rehearse", "StepPlan", "address", "not_shown"]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a step would do: `create`, `change`, `reuse`, `remove`, `skip`, or `refuse`, which rolls the order back."""

    step: str
    action: str
    detail: str = ""


class Rehearsal:
    """The dry run of one order: the plan so far, and the connection on which the steps are rehearsed."""

    def __init__(self, connection: TenantConnection, order: Order) -> None:
        self.connection = connection
        self.order = order
        self.step = "open_order"
        self.plan: list[StepPlan] = []

    def note(self, action: str, detail: str) -> None:
        """Add a line about the current step to the plan."""
        self.plan.append(StepPlan(self.step, action, detail))

    def note_record(self, creator: str, what: str, *notes: str) -> None:
        """Add a record to the plan: the order would create it, or reuse it if another order created it."""
        if creator == self.order.order_id:
            self.note("create", what)
        else:
            self.note("reuse", "; ".join([f"{what}, since order {creator}", *notes]))


Rehearse = Callable[[Rehearsal, Any], Awaitable[None]]
"""The rehearsal of one step of an order."""


async def not_shown(rehearsal: Rehearsal, order: Order) -> None:
    """The plan does not show the step: it ends a part of the line that `archive_subscriber` names as a whole."""


def address(delegation: Delegation) -> str:
    """Return the prefix as people write it: a single address has no length."""
    prefix = delegation.prefix
    vrf = in_vrf(delegation.vrf)
    if prefix is None:
        return f"{delegation}{vrf}"
    return f"{prefix.network_address if prefix.num_addresses == 1 else prefix}{vrf}"
