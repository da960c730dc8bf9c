"""The records of one subscriber, read from the REST API."""

from typing import Any
from urllib.parse import quote

from lastmile.client.api.orders import LastmileApi
from lastmile.client.api.records import ApiOrder
from lastmile.services.overview import Overview
from lastmile.services.records.delegations import DelegationRecord
from lastmile.services.records.sessions import SessionRecord
from lastmile.services.records.subscribers import Subscriber
from lastmile.subscribers.errors import UnknownSubscriberError

__all__ = ["read_overview"]

ORDERS = 20
"""The number of orders that are read."""


async def read_overview(api: LastmileApi, tenant: str, ref: str) -> Overview:
    """Return the subscriber with its records, and its newest orders. The history of its addresses is left out."""
    orders = await api.orders_of(tenant, ref, limit=ORDERS)
    path, scope = f"/v1/subscribers/{quote(ref, safe='')}", {"tenant": tenant}
    values: dict[str, Any] = {name: [] for name in ("addresses", "quarantine", "sessions", "devices", "billing")}
    values |= {"suspensions": [], "history": [], "subscriber": None, "customer": None, "line": None, "radius": None}
    try:
        found = Subscriber.model_validate(await api.transport.get(path, scope))
    except UnknownSubscriberError:
        pass  # its first order has not made it yet
    else:
        delegations = [one async for one in api.transport.pages(f"{path}/delegations", scope)]
        sessions = [one async for one in api.transport.pages(f"{path}/sessions", scope | {"online": "true"})]
        values |= _records(found) | {
            "addresses": [row for one in delegations if (row := _address(DelegationRecord.model_validate(one)))],
            "sessions": [SessionRecord.model_validate(one).model_dump() for one in reversed(sessions)],
        }
    return Overview(tenant=tenant, subscriber_ref=ref, orders=[_order(one) for one in reversed(orders)], **values)


def _records(found: Subscriber) -> dict[str, Any]:
    record = found.model_dump()
    names = ("created_at", "created_by_order", "archived_at", "archived_by_order", "archive_reason")
    line = None if found.line is None else found.line.model_dump(mode="json", exclude_none=True)
    copied = ("customer", "radius", "quarantine", "devices", "billing", "suspensions")
    return {"subscriber": {name: record[name] for name in names}, "line": line} | {
        name: record[name] for name in copied
    }


def _address(found: DelegationRecord) -> dict[str, Any] | None:
    """Return the row of an address; None for one that was released."""
    if found.released_at is not None:
        return None
    return {
        "purpose": found.purpose,
        "prefix": found.prefix,
        "pool": found.pool,
        "vrf": found.vrf,
        "state": found.state,
        "since": found.state_since,
        "order_id": found.created_by_order,
        "replaced_by_order": found.replaced_by_order,
        "until": found.replaced_until,
    }


def _order(found: ApiOrder) -> dict[str, Any]:
    names = ("order_id", "operation", "status", "created_at", "finished_at", "reason")
    return {name: getattr(found, name) for name in names} | {"warnings": found.result.warnings if found.result else []}
