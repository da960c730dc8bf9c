"""The comparison of a line in service with the line that an order asks for: records, addresses and RADIUS speed."""

from collections.abc import Iterator

from ipam.matching import address_differences, unfinished_replacements
from lastmile.contract.lines import ServicePlan
from lastmile.contract.orders import LineRequest, Operation
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.db import TenantConnection
from lastmile.radius import accounts
from lastmile.radius.membership import read_speed
from lastmile.subscribers.differences import find_record_differences
from lastmile.subscribers.errors import LineDiffersError
from lastmile.subscribers.line_states import check_line_state
from lastmile.subscribers.orders import read_line_order

__all__ = ["check_line"]


async def check_line(
    connection: TenantConnection, tenant: str, subscriber_ref: str, order_id: str, request: LineRequest
) -> None:
    """Check that the line that the subscriber has, if any, is the requested one.

    A provision order creates a line, or finds the line that an earlier order created. It does not change a line.

    Raises:
        LineDiffersError: the line differs, with every difference.
        LineStateError: the line is suspended.
    """
    last = await read_line_order(connection, subscriber_ref, order_id)
    if last is None:
        return
    # A deprovision that ended halfway leaves a suspension, but no line in service.
    await check_line_state(connection, subscriber_ref, order_id, Operation.PROVISION)
    if last.result is None:
        return
    # The line may have lost a prefix that it got (an audit finding): the order may allocate the prefix again.
    given = last.result.get("created") or {}
    lost = {purpose for purpose, field in ADDRESS_FIELDS.items() if given.get(field)}
    plan, user = request.plan, await accounts.find_username(connection, tenant, subscriber_ref)
    differences = [
        *await find_record_differences(connection, subscriber_ref, request.customer, plan, request.line),
        *_speed_differences(await read_speed(connection, user), plan),
        *await address_differences(connection, subscriber_ref, request.addressing, may_add=lost),
        *await unfinished_replacements(connection, subscriber_ref),
    ]
    if differences:
        raise LineDiffersError(
            f"subscriber {subscriber_ref} has a line in service, and the order asks for another: "
            f"{'; '.join(differences)}. Order what the line has, or send an order that changes the line"
        )


def _speed_differences(speed: tuple[int, int] | None, plan: ServicePlan) -> Iterator[str]:
    for field, has in zip(("download_kbps", "upload_kbps"), speed or (), strict=False):
        if has != getattr(plan, field):
            yield f"plan.{field}: the line has {has}, but the order has {getattr(plan, field)}"
