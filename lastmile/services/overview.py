"""All records of one subscriber in the database."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, Select, Table, func, select, text

from lastmile.db import Database, TenantConnection
from lastmile.devices.records import devices
from lastmile.radius import accounts
from lastmile.radius.escaping import unescaped
from lastmile.radius.tables import radcheck, radusergroup
from lastmile.services.credentials import read_password
from lastmile.services.records.sessions import open_sessions, readable
from lastmile.subscribers.records import read_line
from lastmile.subscribers.tables import billing_services, customers, orders, subscribers, suspensions

__all__ = ["Overview", "find_overview", "read_overview"]

Rows = list[dict[str, Any]]

_ADDRESSES = text(
    """
    SELECT d.purpose, abbrev(d.prefix::inet) AS prefix, p.name AS pool, p.vrf, d.state, d.state_since AS since,
        d.created_by_order AS order_id, d.replaced_by_order, d.replaced_until AS until
    FROM delegations d JOIN pools p ON p.id = d.pool_id
    WHERE d.subscriber_ref = :ref AND d.released_at IS NULL ORDER BY d.id
    """
)
# Released prefixes in quarantine: only this subscriber's next order can get them again.
_QUARANTINED = text(
    """
    (SELECT DISTINCT ON (s.pool_id, s.slot)
        d.purpose, abbrev(d.prefix::inet) AS prefix, p.name AS pool, p.vrf, s.free_at AS until
    FROM delegations d JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot JOIN pools p ON p.id = d.pool_id
    WHERE d.subscriber_ref = :ref AND s.delegation_id IS NULL AND s.free_at > now()
      AND s.last_holder = concat_ws('/', d.tenant_id, d.subscriber_ref, d.purpose))
    UNION ALL
    SELECT d.purpose, abbrev(r.prefix::inet), p.name, p.vrf, r.due_at
    FROM delegations d JOIN netbox_removals r USING (tenant_id, allocation_key) JOIN pools p ON p.id = r.pool_id
    WHERE d.subscriber_ref = :ref AND r.prefix IS NOT NULL
    """
)
_HISTORY = text(
    """
    SELECT at, abbrev(prefix::inet) AS prefix, vrf, from_state, to_state, order_id, reason
    FROM delegation_events WHERE subscriber_ref = :ref ORDER BY id
    """
)


class Overview(BaseModel):
    """One subscriber with its records, addresses, sessions, orders and history. Every list is oldest first."""

    tenant: str
    subscriber_ref: str
    subscriber: dict[str, Any] | None
    """The current record, or the last one archived."""
    customer: dict[str, Any] | None
    line: dict[str, Any] | None
    radius: dict[str, Any] | None
    addresses: Rows
    quarantine: Rows
    sessions: Rows
    devices: Rows
    billing: Rows
    suspensions: Rows
    history: Rows
    orders: Rows

    @property
    def known(self) -> bool:
        """The database has, or had, a record of this reference."""
        return bool(self.subscriber or self.orders or self.history)


async def find_overview(
    database: Database, tenant: str, ref: str, *, password: bool = False, asked_by: str = ""
) -> Overview:
    """Return everything about the subscriber; with `password`, also the RADIUS password.

    The audit log records who has asked for the password.
    """
    async with database.tenant(tenant, actor=asked_by) as connection:
        return await read_overview(connection, tenant, ref, password=password)


async def read_overview(connection: TenantConnection, tenant: str, ref: str, *, password: bool = False) -> Overview:
    """As `find_overview`, in the caller's transaction."""
    user = await accounts.find_username(connection, tenant, ref)
    subscriber = await _newest(connection, subscribers, subscribers.c.ref == ref)
    line = await read_line(connection, ref)
    return Overview(
        tenant=tenant,
        subscriber_ref=ref,
        subscriber=subscriber,
        customer=await _newest(connection, customers, customers.c.id == subscriber["customer_id"])
        if subscriber
        else None,
        line=line.model_dump(mode="json", exclude_none=True) if line else None,
        radius=await _account(connection, ref, user, password=password),
        addresses=_dicts((await connection.execute(_ADDRESSES, {"ref": ref})).all()),
        quarantine=_dicts((await connection.execute(_QUARANTINED, {"ref": ref})).all()),
        sessions=[readable(row) for row in await _rows(connection, open_sessions(user))],
        devices=await _rows(
            connection,
            select(devices.c.kind, devices.c.identity, devices.c.in_service, devices.c.confirmed, devices.c.updated_at)
            .where(devices.c.subscriber_ref == ref)
            .order_by(devices.c.kind.desc()),
        ),
        billing=await _rows(connection, _billing(ref)),
        suspensions=await _rows(connection, _suspensions(ref)),
        history=_dicts((await connection.execute(_HISTORY, {"ref": ref})).all()),
        orders=await _rows(connection, _orders(ref)),
    )


async def _account(connection: TenantConnection, ref: str, user: str, *, password: bool) -> dict[str, Any] | None:
    statement = select(radcheck.c.attribute, radcheck.c.value).where(radcheck.c.username == user)
    items = {(row.attribute, row.value) for row in await connection.execute(statement)}
    if not items:
        return None
    group = await connection.scalar(select(radusergroup.c.groupname).where(radusergroup.c.username == user))
    account = {"username": unescaped(user), "group": group, "blocked": ("Auth-Type", "Reject") in items}
    return account | ({"password": await read_password(connection, ref)} if password else {})


def _billing(ref: str) -> Select[Any]:
    service = billing_services.c
    return (
        select(service.plan, service.price_ref, service.status, service.started_at, service.ended_at)
        .join(subscribers, subscribers.c.id == service.subscriber_id)
        .where(subscribers.c.ref == ref)
        .order_by(service.started_at)
    )


def _suspensions(ref: str) -> Select[Any]:
    suspension = suspensions.c
    return (
        select(
            suspension.mode,
            suspension.reason,
            suspension.created_at.label("since"),
            suspension.resume_at.label("until"),
            suspension.created_by_order.label("order_id"),
            suspension.ended_at,
            suspension.ended_by_order,
        )
        .where(suspension.subscriber_ref == ref)
        .order_by(suspension.id)
    )


def _orders(ref: str) -> Select[Any]:
    order = orders.c
    columns = (order.order_id, order.operation, order.status, order.created_at, order.finished_at)
    reason = func.coalesce(order.result["reason"].astext, "").label("reason")
    warnings = func.coalesce(order.result["warnings"], text("'[]'::jsonb")).label("warnings")
    return select(*columns, reason, warnings).where(order.subscriber_ref == ref).order_by(order.created_at)


async def _newest(connection: TenantConnection, table: Table, condition: ColumnElement[bool]) -> dict[str, Any] | None:
    rows = _dicts((await connection.execute(select(table).where(condition).order_by(table.c.created_at))).all())
    return {name: value for name, value in rows[-1].items() if name != "tenant_id"} if rows else None


async def _rows(connection: TenantConnection, statement: Select[Any]) -> Rows:
    return _dicts((await connection.execute(statement)).all())


def _dicts(rows: Sequence[Row[Any]]) -> Rows:
    return [dict(row._mapping) for row in rows]
