"""Calls that a controller has accepted and that the device has yet to follow. The reconciler repeats them.

There is at most one pending call of a line for each device. The answer to a later call replaces it.
"""

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from lastmile.db import PlatformConnection, TenantConnection, metadata
from lastmile.db.direct import DirectStatement
from lastmile.devices.controllers import LineDevice
from lastmile.devices.records import DeviceKind

__all__ = [
    "PendingCall",
    "begin_call",
    "begin_check",
    "claim_due_calls",
    "correct_device",
    "count_checks",
    "drop_check",
    "find_replacement",
    "hasten_calls",
    "pending_device_calls",
    "record_answer",
    "release_call",
    "settle_call",
]

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=15)
"""The pause before a repetition equals the time that the call has waited, within these limits."""
LONGEST_ATTEMPT = timedelta(minutes=5)
"""The reconciler repeats a call without an answer only when the attempt of its step must have ended."""

pending_device_calls = Table(
    "pending_device_calls",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("switches_on", Boolean, nullable=False),
    Column("device", JSONB, nullable=False),
    Column("waits_for", Text, nullable=False),
    Column("error", Text, nullable=False, server_default=""),
    Column("order_id", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("claimed_until", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("is_check", Boolean, nullable=False, server_default="false"),
    PrimaryKeyConstraint("tenant_id", "kind", "identity", "subscriber_ref"),
)


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that the reconciler has claimed."""

    tenant: str
    kind: DeviceKind
    device: LineDevice
    on: bool
    order_id: str
    """The order that made the call."""
    version: int
    claimed_until: datetime
    is_check: bool = False
    """Whether a round asks again for a device in service."""


_THIS = "kind = :kind AND identity = :identity AND subscriber_ref = :subscriber_ref"
# The call is kept before the controller is asked. An answer settles it only where no repetition of an earlier call was
# under way meanwhile: that one may have reached the device last. Then the call is repeated.
_BEGIN = DirectStatement(
    """
    INSERT INTO pending_device_calls AS p
        (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for, order_id, due_at)
    VALUES (:tenant_id, :kind, :identity, :subscriber_ref, :on, CAST(:device AS jsonb), '', :order_id,
            now() + CAST(:longest AS interval))
    ON CONFLICT (tenant_id, kind, identity, subscriber_ref) DO UPDATE
    SET switches_on = excluded.switches_on, device = excluded.device, order_id = excluded.order_id,
        due_at = excluded.due_at, version = p.version + 1, waits_for = '', error = '', is_check = false,
        since = CASE WHEN p.switches_on = excluded.switches_on THEN p.since ELSE now() END
    RETURNING version
    """
)
_FOLLOWED = DirectStatement(
    f"""
    DELETE FROM pending_device_calls
    WHERE {_THIS} AND version = :version AND coalesce(claimed_until, now()) <= now()
    """
)
_WAITS = DirectStatement(
    f"""
    UPDATE pending_device_calls
    SET waits_for = :waits_for, due_at = greatest(now() + CAST(:pause AS interval), claimed_until)
    WHERE {_THIS} AND version = :version
    """
)
# A repetition that has begun with the former description settles nothing.
_CORRECT = DirectStatement(
    f"""
    UPDATE pending_device_calls
    SET identity = :corrected, device = CAST(:device AS jsonb), version = version + 1
    WHERE {_THIS} AND switches_on AND (:corrected = :identity OR NOT EXISTS (
        SELECT FROM pending_device_calls
        WHERE kind = :kind AND identity = :corrected AND subscriber_ref = :subscriber_ref))
    """
)
_HASTEN = DirectStatement(
    """
    UPDATE pending_device_calls SET due_at = now()
    WHERE subscriber_ref = :subscriber_ref AND (waits_for <> '' OR error <> '')
    """
)
_CLAIM = text(
    """
    UPDATE pending_device_calls p SET claimed_until = now() + CAST(:lease AS interval)
    FROM (
        SELECT tenant_id, kind, identity, subscriber_ref FROM pending_device_calls
        WHERE due_at <= now() AND coalesce(claimed_until, now()) <= now()
        ORDER BY due_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ) due
    WHERE (p.tenant_id, p.kind, p.identity, p.subscriber_ref)
        = (due.tenant_id, due.kind, due.identity, due.subscriber_ref)
    RETURNING p.*
    """
)
_CHECK = text(
    f"""
    INSERT INTO pending_device_calls
        (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for, order_id, due_at, is_check)
    SELECT tenant_id, kind, identity, subscriber_ref, true, CAST(:device AS jsonb), '', updated_by_order, now(), true
    FROM devices d
    WHERE {_THIS} AND in_service AND confirmed
      AND NOT EXISTS (SELECT FROM orders o
                      WHERE (o.tenant_id, o.subscriber_ref) = (d.tenant_id, d.subscriber_ref)
                        AND lastmile_order_unfinished(o.status))
    ON CONFLICT DO NOTHING
    """
)
_CHECKS = text("SELECT count(*) FROM pending_device_calls WHERE is_check")
_CLAIMED = f"{_THIS} AND claimed_until = :claim"
_REPLACEMENT = text(f"SELECT device FROM pending_device_calls WHERE {_CLAIMED} AND version <> :version")
_SETTLE = text(f"DELETE FROM pending_device_calls WHERE {_CLAIMED} AND version = :version")
_CONFIRM = DirectStatement(
    f"UPDATE devices SET confirmed = :confirmed WHERE {_THIS} AND in_service = :on AND confirmed <> :confirmed"
)
# Where a later call has replaced this one, the row keeps what it says of the later call. It gets a new version, so that
# the answer to the later call does not settle it: it is repeated.
_RELEASE = text(
    f"""
    UPDATE pending_device_calls
    SET claimed_until = NULL,
        waits_for = CASE WHEN version = :version AND :waits_for <> '' THEN :waits_for ELSE waits_for END,
        error = CASE WHEN version = :version THEN :error ELSE error END,
        is_check = false,
        due_at = CASE WHEN version = :version
                      THEN now() + least(greatest(now() - since, CAST(:first AS interval)), CAST(:longest AS interval))
                      ELSE now() END,
        version = CASE WHEN version = :version THEN version ELSE version + 1 END
    WHERE {_CLAIMED}
    """
)


async def begin_call(
    connection: TenantConnection, tenant: str, order_id: str, kind: DeviceKind, device: LineDevice, on: bool
) -> int:
    """Keep a call that is about to be made, in place of an earlier one; return its version.

    Without an answer, because the worker and then the order have ended, the call is repeated.
    """
    given = _key(kind, device) | {
        "tenant_id": tenant,
        "on": on,
        "device": json.dumps(asdict(device)),
        "order_id": order_id,
        "longest": LONGEST_ATTEMPT,
    }
    version: int = await _BEGIN.scalar(connection, given)
    return version


async def record_answer(
    connection: TenantConnection, kind: DeviceKind, device: LineDevice, on: bool, version: int, waits_for: str
) -> None:
    """Record what the device waits for after a call of this version; empty: it is in the state."""
    this = _key(kind, device)
    if waits_for or not await _FOLLOWED.count(connection, this | {"version": version}):
        await _WAITS.count(connection, this | {"version": version, "waits_for": waits_for, "pause": FIRST_PAUSE})
    await _CONFIRM.count(connection, this | {"on": on, "confirmed": not waits_for})


async def correct_device(connection: TenantConnection, kind: DeviceKind, identity: str, device: LineDevice) -> None:
    """Describe a device, which may have another identity now, in the pending call that puts it into service."""
    given = _key(kind, device) | {"corrected": device.identity, "device": json.dumps(asdict(device))}
    await _CORRECT.count(connection, given | {"identity": identity})


async def hasten_calls(connection: TenantConnection, subscriber_ref: str) -> int:
    """Let the controllers of the subscriber's waiting devices be asked again at once; return the number of calls.

    A call whose first answer is outstanding is left alone: its step still asks the controller.
    """
    return await _HASTEN.count(connection, {"subscriber_ref": subscriber_ref})


async def claim_due_calls(connection: PlatformConnection, *, lease: timedelta, batch: int) -> list[PendingCall]:
    """Claim calls that are due, for the time of the `lease`."""
    rows = await connection.execute(_CLAIM, {"lease": lease, "batch": batch})
    return [
        PendingCall(
            row.tenant_id,
            DeviceKind(row.kind),
            _device(row.device),
            row.switches_on,
            row.order_id,
            row.version,
            row.claimed_until,
            row.is_check,
        )
        for row in rows
    ]


async def begin_check(connection: TenantConnection, kind: DeviceKind, device: LineDevice) -> None:
    """Let the reconciler ask again for a device in service, unless an order is at work on the line.

    The fence of the transaction lets no order of the line begin meanwhile.
    """
    await connection.execute(_CHECK, _key(kind, device) | {"device": json.dumps(asdict(device))})


async def count_checks(connection: PlatformConnection) -> int:
    """Return how many calls of `begin_check` the reconciler has yet to make."""
    return int(await connection.scalar(_CHECKS) or 0)


async def drop_check(connection: TenantConnection, call: PendingCall) -> None:
    """Forget the call of a round. The call of an order that has replaced it is repeated."""
    if (await connection.execute(_SETTLE, _claim(call))).rowcount == 0:
        await connection.execute(_RELEASE, _claim(call) | _answer("", ""))


async def find_replacement(connection: TenantConnection, call: PendingCall) -> LineDevice | None:
    """Return the device of the later call that has replaced this one; None: there is none."""
    stored = await connection.scalar(_REPLACEMENT, _claim(call))
    return None if stored is None else _device(stored)


async def settle_call(connection: TenantConnection, call: PendingCall) -> bool:
    """Record that the device has followed. Return False where a later call has replaced this one."""
    this = _claim(call)
    if (await connection.execute(_SETTLE, this)).rowcount == 0:
        await connection.execute(_RELEASE, this | _answer("", ""))
        return False
    await _CONFIRM.count(connection, _key(call.kind, call.device) | {"on": call.on, "confirmed": True})
    return True


async def release_call(
    connection: TenantConnection, call: PendingCall, *, waits_for: str = "", error: str = ""
) -> None:
    """Record that the device still waits, or why the controller could not be asked, and end the claim."""
    await connection.execute(_RELEASE, _claim(call) | _answer(waits_for, error))


def _device(stored: dict[str, Any]) -> LineDevice:
    """Return the device as this version knows it: a newer version may have stored more."""
    return LineDevice(**{field.name: stored[field.name] for field in fields(LineDevice) if field.name in stored})


def _key(kind: DeviceKind, device: LineDevice) -> dict[str, Any]:
    return {"kind": kind, "identity": device.identity, "subscriber_ref": device.subscriber_ref}


def _claim(call: PendingCall) -> dict[str, Any]:
    return _key(call.kind, call.device) | {"claim": call.claimed_until, "version": call.version}


def _answer(waits_for: str, error: str) -> dict[str, Any]:
    return {"waits_for": waits_for, "error": error, "first": FIRST_PAUSE, "longest": LONGEST_PAUSE}
