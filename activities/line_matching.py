"""Compare a line in service with the line that an order asks for, across the domains."""

from collections.abc import Iterator

from activities.addresses import FACTS
from activities.messages import StepContext
from ipam.matching import address_differences
from lastmile.contract.lines import ServicePlan
from lastmile.contract.orders import LineRequest
from lastmile.db import TenantConnection
from lastmile.radius import accounts
from lastmile.subscribers.differences import record_differences
from lastmile.subscribers.errors import LineDiffersError
from lastmile.subscribers.orders import live_line

__all__ = ["check_line"]


async def check_line(connection: TenantConnection, ref: StepContext, request: LineRequest) -> None:
    """Raise `LineDiffersError`, with every difference, where the subscriber has another line in service.

    A provision order creates a line, or finds the same line of an earlier order. It does not change a line.
    """
    before = await live_line(connection, ref.subscriber_ref, ref.order_id)
    if before is None:
        return
    # The order may allocate an address again that the line has lost (an audit finding).
    given = before.get("created") or {}
    lost = {purpose for purpose, field in FACTS.items() if given.get(field)}
    plan, user = request.plan, accounts.username(ref.tenant, ref.subscriber_ref)
    differences = [
        *await record_differences(connection, ref.subscriber_ref, request.customer, plan, request.line),
        *_speed_differences(await accounts.speed_of(connection, user), plan),
        *await address_differences(connection, ref.subscriber_ref, request.addressing, may_add=lost),
    ]
    if differences:
        raise LineDiffersError(
            f"subscriber {ref.subscriber_ref} has a line in service, and the order asks for another: "
            f"{'; '.join(differences)}. Order what the line has, or deprovision the line first"
        )


def _speed_differences(speed: tuple[int, int] | None, plan: ServicePlan) -> Iterator[str]:
    for field, has in zip(("download_kbps", "upload_kbps"), speed or (), strict=False):
        if has != getattr(plan, field):
            yield f"plan.{field}: the line has {has}, the order says {getattr(plan, field)}"
