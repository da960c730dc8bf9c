"""The history of a subscriber's records, and of a prefix's holders."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from lastmile.audit.history import (
    HistoryEntry,
    Prefix,
    Tenure,
    find_delegations,
    read_history,
    read_history_after,
    read_tenures,
)
from lastmile.db import Database
from lastmile.services.records.pages import Page, PageRequest, reading

__all__ = ["Prefix", "find_holders", "find_subscriber_history", "list_history"]

PERSONAL_FIELDS = ("name", "email", "phone")
"""The columns of `customers` that are personal data."""


async def find_subscriber_history(
    database: Database, tenant: str, subscriber_ref: str, since: datetime | None = None
) -> list[HistoryEntry]:
    """Return the changes of the subscriber's records from `since` on, oldest first."""
    async with database.platform() as connection:
        return await read_history(connection, tenant, subscriber_ref, since)


async def list_history(
    database: Database,
    tenant: str,
    subscriber_ref: str,
    request: PageRequest,
    *,
    since: datetime | None = None,
    personal: bool,
) -> Page[HistoryEntry]:
    """Return a page of the changes of the subscriber's records from `since` on, oldest first.

    Without `personal`, the changes of a customer's name, e-mail address and phone number have no values.
    """
    after: Any = request.after
    async with database.tenant(tenant) as connection:
        found = await read_history_after(connection, tenant, subscriber_ref, since, after, request.limit + 1)
    shown = found[: request.limit]
    entries = [entry if personal else _without_personal_data(entry) for entry, _ in shown]
    return Page(entries, shown[-1][1] if len(found) > len(shown) else None)


def _without_personal_data(entry: HistoryEntry) -> HistoryEntry:
    if entry.record != "customers":
        return entry
    return replace(entry, before=_stripped(entry.before), after=_stripped(entry.after))


def _stripped(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: value for name, value in row.items() if name not in PERSONAL_FIELDS}


async def find_holders(
    database: Database,
    prefix: Prefix,
    *,
    tenant: str | None = None,
    at: datetime | None = None,
    since: datetime | None = None,
) -> list[Tenure]:
    """Return the subscribers that held the prefix, a part of it, or a prefix around it, oldest first.

    With `at`, only those that held it at that time; with `since`, only those that held it at that time or later.
    With `tenant`, row-level security shows only the subscribers of this tenant.
    """
    async with database.platform() as connection:
        delegations = await find_delegations(connection, prefix)
    async with reading(database, tenant) as connection:
        found = await read_tenures(connection, prefix, delegations, at)
    return [one for one in found if _held_after(one, since)]


def _held_after(tenure: Tenure, since: datetime | None) -> bool:
    return since is None or tenure.until is None or tenure.until >= since
