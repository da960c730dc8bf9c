"""The export of live subscribers as the provision orders that would create them again."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, text

from lastmile.contract import ProvisionSubscriber
from lastmile.contract.addressing import DEFAULT_VRF, IPv4Mode, IPv6Mode, Purpose
from lastmile.contract.lines import Customer, Line
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.db import Database
from lastmile.fields.stored import STORED
from lastmile.radius.groups import Group
from lastmile.services.credentials import read_password
from lastmile.services.tenants import list_tenants
from lastmile.validation_messages import mistakes

__all__ = ["NOTES", "ExportedSubscriber", "export_subscribers"]

# Each page is a short transaction of its own: a slow reader holds no lock in the database.
PAGE = 500

# Facts that an order cannot ask for, for the readers of the file.
_NOTES = {purpose: f"_{fact}" for purpose, fact in ADDRESS_FIELDS.items() if purpose is not Purpose.IPV4}
NOTES = tuple(_NOTES.values())

_MODES = {
    Purpose.IPV6_PD: IPv6Mode.PD,
    Purpose.IPV6_FRAMED: IPv6Mode.SLAAC,
    Purpose.IPV6_ADDRESS: IPv6Mode.STATEFUL,
}

_PAGE = text(
    """
    SELECT s.ref AS subscriber_ref, s.created_by_order AS order_id,
        to_jsonb(c) AS customer, to_jsonb(n) AS line, b.plan, b.price_ref, g.groupname,
        (SELECT jsonb_object_agg(d.purpose, jsonb_build_object(
            'address', abbrev(d.prefix::inet), 'length', masklen(d.prefix), 'pool', p.name, 'vrf', p.vrf))
         FROM delegations d JOIN pools p ON p.id = d.pool_id
         WHERE d.tenant_id = s.tenant_id AND d.subscriber_ref = s.ref AND d.state <> 'revoked'
           AND d.replaced_by_order IS NULL) AS held,
        EXISTS (SELECT FROM orders o WHERE o.tenant_id = s.tenant_id AND o.subscriber_ref = s.ref
                AND o.finished_at IS NULL) AS busy
    FROM subscribers s
    JOIN customers c ON c.id = s.customer_id
    LEFT JOIN network_profiles n ON n.subscriber_id = s.id
    LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status <> 'ended'
    LEFT JOIN radcheck a ON a.tenant_id = s.tenant_id AND a.tenant_id <> '' AND a.subscriber_ref = s.ref
                        AND lastmile_is_account(a.attribute, a.value)
    LEFT JOIN radusergroup g ON g.username = a.username
    WHERE s.tenant_id = :tenant AND s.archived_at IS NULL AND s.ref > :after
    ORDER BY s.ref LIMIT :page
    """
)


@dataclass(frozen=True, slots=True)
class ExportedSubscriber:
    """A live subscriber."""

    subscriber_ref: str
    order: ProvisionSubscriber | None = None
    notes: dict[str, str | None] = field(default_factory=dict)
    """The value of each of `NOTES`."""
    problem: str = ""
    """Why no order would create the subscriber again."""


async def export_subscribers(
    database: Database, tenant: str | None = None, *, adopt: bool = False, asked_by: str = ""
) -> AsyncIterator[ExportedSubscriber]:
    """Yield the live subscribers of the tenant, or of all tenants, by tenant and reference.

    With `adopt`, the orders adopt the lines as they are, with prefix, address and password. The audit log records who
    has asked for each password.
    A subscriber has the state of the moment when its page is read.
    """
    for one in [tenant] if tenant is not None else [known.id for known in await list_tenants(database)]:
        async for exported in _export_tenant(database, one, adopt, asked_by):
            yield exported


async def _export_tenant(
    database: Database, tenant: str, adopt: bool, asked_by: str
) -> AsyncIterator[ExportedSubscriber]:
    after = ""
    while True:
        async with database.tenant(tenant, actor=asked_by) as connection:
            page = {"tenant": tenant, "after": after, "page": PAGE}
            rows = (await connection.execute(_PAGE, page)).all()
            passwords = {
                row.subscriber_ref: await read_password(connection, row.subscriber_ref) for row in rows if adopt
            }
        for row in rows:
            yield _exported(tenant, row, passwords.get(row.subscriber_ref), adopt=adopt)
        if len(rows) < PAGE:
            return
        after = rows[-1].subscriber_ref


def _exported(tenant: str, row: Row[Any], password: str | None, *, adopt: bool) -> ExportedSubscriber:
    if row.busy:
        return ExportedSubscriber(row.subscriber_ref, problem="an order of it has not ended")
    parts = {"network profile": row.line, "billing service": row.plan, "RADIUS account": row.groupname}
    if missing := [name for name, part in parts.items() if part is None]:
        return ExportedSubscriber(row.subscriber_ref, problem=f"it has no {', no '.join(missing)}")
    held = row.held or {}
    if (group := Group.parse(row.groupname)) is None:
        return ExportedSubscriber(row.subscriber_ref, problem=f"its RADIUS group {row.groupname} is of no plan")
    if group.suspended is not None:
        return ExportedSubscriber(row.subscriber_ref, problem="it is suspended, and a provision puts it into service")
    try:
        order = ProvisionSubscriber.model_validate(
            {
                "tenant": tenant,
                "order_id": row.order_id,
                "subscriber_ref": row.subscriber_ref,
                "customer": {name: row.customer[name] for name in Customer.model_fields},
                "plan": {
                    "name": row.plan,
                    "download_kbps": group.download_kbps,
                    "upload_kbps": group.upload_kbps,
                    "price_ref": row.price_ref,
                },
                "line": {name: row.line[name] for name in Line.model_fields},
                "addressing": _addressing(held, adopt=adopt),
                "adopt": adopt,
                "password": password,
            },
            context=STORED,
        )
    except ValidationError as failure:
        return ExportedSubscriber(row.subscriber_ref, problem="; ".join(mistakes(failure, ProvisionSubscriber)))
    if sum(purpose in held for purpose in _MODES) > 1:
        return ExportedSubscriber(
            row.subscriber_ref, problem="it holds more than one kind of IPv6 prefix, which no order asks"
        )
    if len({there["vrf"] for there in held.values()}) > 1:
        return ExportedSubscriber(
            row.subscriber_ref, problem="its addresses are in several VRFs, and an order names one"
        )
    notes = {note: held[purpose]["address"] if purpose in held else None for purpose, note in _NOTES.items()}
    return ExportedSubscriber(row.subscriber_ref, order, notes)


def _addressing(held: Mapping[str, Any], *, adopt: bool) -> dict[str, Any]:
    """Return the addressing that gets prefixes of the same pools again, or adopts the same; IPv4 by its address."""
    ipv4 = held.get(Purpose.IPV4)
    asked: dict[str, Any] = {"enable_ipv6": False}
    for purpose, mode in _MODES.items():
        if there := held.get(purpose):
            asked = {"ipv6_mode": mode, "ipv6_pool": there["pool"]}
            if adopt:
                address = there["address"]  # a single address has no length
                asked["ipv6_prefix"] = address if "/" in address else f"{address}/{there['length']}"
            if purpose is Purpose.IPV6_PD:
                asked["ipv6_pd_size"] = there["length"]
                asked["ipv6_mode"] = IPv6Mode.DUAL_STACK if ipv4 else mode
            break
    if ipv4:
        asked |= {"ipv4_mode": IPv4Mode.STATIC, "ipv4_address": ipv4["address"], "ipv4_pool": ipv4["pool"]}
    if vrf := next((there["vrf"] for there in held.values()), DEFAULT_VRF):
        asked["vrf"] = vrf
    return asked
