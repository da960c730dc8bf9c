"""What the steps of a change have replaced, so that their undos can restore it.

A step calls `keep` before it replaces something, in the same transaction. Its undo calls `take`. Only one order of a
subscriber runs at a time, so a row of another order belongs to an order that ended halfway.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import cast, delete, select, true
from sqlalchemy.dialects.postgresql import JSONB, insert

from lastmile.db import TenantConnection
from lastmile.subscribers.tables import previous_values

__all__ = ["find", "keep", "keep_way", "kept_by_every_order", "settle", "take"]


_OPPOSITE = {
    "suspend_addresses": "resume_addresses",
    "suspend_radius_account": "resume_radius_account",
    "suspend_billing_service": "resume_billing_service",
}
"""Steps that replace the same thing: the one that is done last says what the line has."""
_OPPOSITE |= {resume: suspend for suspend, resume in _OPPOSITE.items()}


async def keep(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    step: str,
    value: Mapping[str, Any],
) -> None:
    """Keep what the step is about to replace. A repeated call changes nothing: the first value is the previous one."""
    row = {
        "tenant_id": tenant,
        "created_by_order": order_id,
        "step": step,
        "subscriber_ref": subscriber_ref,
        "value": dict(value),
    }
    await connection.execute(insert(previous_values).values(row).on_conflict_do_nothing())


async def keep_way(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    step: str,
    present: str,
    after: str,
    **own: Any,
) -> dict[str, Any]:
    """Keep the way from `present` to `after`, and return the kept value.

    Its `before` is the first value ever kept. Its `was` is what the last change replaced: a repeated call finds the
    change made and leaves it, and an order that took over a lost order replaces what that order had changed. `after`
    and `own` are those of this order.
    """
    mine = {"after": after, **own} | ({} if present == after else {"was": present})
    row = {
        "tenant_id": tenant,
        "created_by_order": order_id,
        "step": step,
        "subscriber_ref": subscriber_ref,
        "value": {"before": present, "was": present, **mine},
    }
    kept = insert(previous_values).values(row)
    kept = kept.on_conflict_do_update(
        index_elements=previous_values.primary_key.columns,
        set_={"value": previous_values.c.value.concat(cast(mine, JSONB))},
    )
    value = await connection.scalar(kept.returning(previous_values.c.value))
    assert value is not None  # either way there is a row
    return dict(value)


async def find(connection: TenantConnection, order_id: str, step: str) -> dict[str, Any] | None:
    """Return the previous value of this order's step. None: the step has replaced nothing."""
    value = await connection.scalar(
        select(previous_values.c.value).where(
            previous_values.c.created_by_order == order_id, previous_values.c.step == step
        )
    )
    return None if value is None else dict(value)


async def kept_by_every_order(connection: TenantConnection, subscriber_ref: str, step: str) -> list[dict[str, Any]]:
    """Return the previous values of the step in this order, and in unfinished orders of the subscriber."""
    values = await connection.scalars(
        select(previous_values.c.value)
        .where(previous_values.c.subscriber_ref == subscriber_ref, previous_values.c.step == step)
        .order_by(previous_values.c.recorded_at)
    )
    return [dict(value) for value in values]


async def take(connection: TenantConnection, order_id: str, step: str) -> dict[str, Any] | None:
    """Delete the previous value of this order's step, and return it. None: the step has replaced nothing."""
    value = await connection.scalar(
        delete(previous_values)
        .where(previous_values.c.created_by_order == order_id, previous_values.c.step == step)
        .returning(previous_values.c.value)
    )
    return None if value is None else dict(value)


async def settle(
    connection: TenantConnection, subscriber_ref: str, order_id: str, steps: Iterable[str], *, everything: bool
) -> None:
    """Delete the previous values of the completed order, and those of lost orders in the same or opposite steps.

    `steps`: those of the order. `everything`: also those of lost orders in other steps, since the line has ended.
    """
    kept = select(previous_values.c.step).where(previous_values.c.created_by_order == order_id)
    opposites = [_OPPOSITE[step] for step in steps if step in _OPPOSITE]
    await connection.execute(
        delete(previous_values).where(
            previous_values.c.subscriber_ref == subscriber_ref,
            true() if everything else previous_values.c.step.in_(kept) | previous_values.c.step.in_(opposites),
        )
    )
