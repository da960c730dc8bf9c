"""The change of a line's network profile by an order, and its undo."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError

from lastmile.contract.lines import LINE_DEVICES, IpoeIdentity, Line
from lastmile.db import TenantConnection
from lastmile.fields.stored import STORED
from lastmile.subscribers import previous_values
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.line_conflicts import line_conflict
from lastmile.subscribers.tables import network_profiles, subscribers

__all__ = [
    "ChangedLine",
    "change_line",
    "change_speed_profile",
    "changed_fields",
    "read_line_before",
    "restore_line",
    "restore_speed_profile",
    "write_line_before",
]

STEP = "change_line"
SPEED_STEP = "change_onu_speed"
ChangedLine = tuple[str, Line, Line]
"""The id of the network profile, and the line before the change and after it."""


async def change_line(
    connection: TenantConnection, tenant: str, order_id: str, subscriber_ref: str, changes: Mapping[str, Any]
) -> ChangedLine:
    """Change fields of the line. A change to another device removes the other fields of the former device.

    The line before is the one that the first attempt found. An order that takes over a lost order so replaces the
    lost order's change, whatever fields that order named.

    Raises:
        RecordConflictError: another line has a resource that cannot be shared, the subscriber has no profile, or the
            line would lose the MAC address by which it logs in.
    """
    profile_id, present = await _read_profile(connection, subscriber_ref)
    await previous_values.keep(
        connection, tenant, order_id, subscriber_ref, STEP, {"line": present.model_dump(mode="json")}
    )
    before = await read_line_before(connection, order_id) or present
    after = Line.model_validate(before.model_dump() | _replaced(before, changes) | dict(changes), context=STORED)
    if before.identified_by is IpoeIdentity.MAC and after.cpe_mac is None:
        raise RecordConflictError(
            "cpe_mac: the line logs in by the MAC address of its CPE. Name the MAC address of the new CPE, too."
        )
    await _write_profile(connection, profile_id, after)
    return profile_id, before, after


async def read_line_before(connection: TenantConnection, order_id: str) -> Line | None:
    """Return the line as it was before the order changed it; None if the order has changed no line."""
    kept = await previous_values.find(connection, order_id, STEP)
    return None if kept is None else Line.model_validate(kept["line"], context=STORED)


async def write_line_before(connection: TenantConnection, order_id: str, subscriber_ref: str) -> None:
    """Give the network profile the values before `change_line`, and keep them for `restore_line`.

    An undo calls this before it tells a controller: the constraints of the profile refuse a place, or a device, that
    another line has got meanwhile.

    Raises:
        RecordConflictError: another line got a resource of the line meanwhile.
    """
    if before := await read_line_before(connection, order_id):
        profile_id, _ = await _read_profile(connection, subscriber_ref)
        await _write_profile(connection, profile_id, before)


async def restore_line(connection: TenantConnection, order_id: str, subscriber_ref: str) -> bool:
    """Undo `change_line`. Return whether the order had changed a line.

    Raises:
        RecordConflictError: another line got a resource of the line meanwhile.
    """
    await write_line_before(connection, order_id, subscriber_ref)
    return await previous_values.take(connection, order_id, STEP) is not None


def changed_fields(before: Line, after: Line) -> list[str]:
    """Return the fields whose values differ."""
    return [field for field in Line.model_fields if getattr(before, field) != getattr(after, field)]


async def change_speed_profile(
    connection: TenantConnection, tenant: str, order_id: str, subscriber_ref: str, speed_profile: str | None
) -> tuple[str | None, str | None]:
    """Give the line the OLT's profile of another plan, or none. Return the profile before, and the one after."""
    row = (await connection.execute(select(network_profiles.c.speed_profile).where(_of_line(subscriber_ref)))).first()
    if row is None or row.speed_profile == speed_profile:
        return speed_profile, speed_profile
    await previous_values.keep(
        connection, tenant, order_id, subscriber_ref, SPEED_STEP, {"speed_profile": row.speed_profile}
    )
    await _write_speed_profile(connection, subscriber_ref, speed_profile)
    return row.speed_profile, speed_profile


async def restore_speed_profile(connection: TenantConnection, order_id: str, subscriber_ref: str) -> None:
    """Undo `change_speed_profile`."""
    kept = await previous_values.take(connection, order_id, SPEED_STEP)
    if kept is not None:
        await _write_speed_profile(connection, subscriber_ref, kept["speed_profile"])


async def _write_speed_profile(connection: TenantConnection, subscriber_ref: str, speed_profile: str | None) -> None:
    await connection.execute(
        update(network_profiles).where(_of_line(subscriber_ref)).values(speed_profile=speed_profile)
    )


def _of_line(subscriber_ref: str) -> ColumnElement[bool]:
    current = select(subscribers.c.id).where(subscribers.c.ref == subscriber_ref, subscribers.c.archived_at.is_(None))
    return network_profiles.c.subscriber_id.in_(current)


def _replaced(before: Line, changes: Mapping[str, Any]) -> dict[str, None]:
    """Return the fields of each device that the changes replace by another one, without values.

    The changes replace a device of the line if they name a device, and each of its names differs from the former one.
    """
    lost: dict[str, None] = {}
    for device in LINE_DEVICES:
        known = any(getattr(before, way[-1]) is not None for way in device.names)
        named = [way for way in device.names if way[-1] in changes]
        same = any(all(getattr(before, field) == changes.get(field) for field in way) for way in named)
        if known and named and not same:
            lost |= dict.fromkeys([field for way in (*device.names, device.other) for field in way])
    return lost


async def _read_profile(connection: TenantConnection, subscriber_ref: str) -> tuple[str, Line]:
    columns = [network_profiles.c[field] for field in Line.model_fields]
    row = (
        await connection.execute(
            select(network_profiles.c.id, *columns)
            .join(subscribers, network_profiles.c.subscriber_id == subscribers.c.id)
            .where(subscribers.c.ref == subscriber_ref, subscribers.c.archived_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise RecordConflictError(
            f"Subscriber {subscriber_ref} has no network profile. Deprovision the subscriber, and provision it again."
        )
    values = row._asdict()
    return values.pop("id"), Line.model_validate(values, context=STORED)


async def _write_profile(connection: TenantConnection, profile_id: str, line: Line) -> None:
    statement = update(network_profiles).where(network_profiles.c.id == profile_id).values(line.model_dump())
    try:
        async with connection.begin_nested():
            await connection.execute(statement)
    except IntegrityError:
        raise await line_conflict(connection, line, profile_id) from None
