"""The history of a subscriber's records, and of a prefix's holders."""

from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lastmile.audit.history import HistoryEntry, Tenure, read_history, read_tenures
from lastmile.db import Database

__all__ = ["Prefix", "find_holders", "find_subscriber_history"]

Prefix = IPv4Network | IPv6Network | IPv4Address | IPv6Address


async def find_subscriber_history(
    database: Database, tenant: str, subscriber_ref: str, since: datetime | None = None
) -> list[HistoryEntry]:
    """Return the changes of the subscriber's records from `since` on, oldest first."""
    async with database.platform() as connection:
        return await read_history(connection, tenant, subscriber_ref, since)


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
    """
    async with database.platform() as connection:
        found = await read_tenures(connection, prefix, at)
    return [one for one in found if tenant in (None, one.tenant) and _held_after(one, since)]


def _held_after(tenure: Tenure, since: datetime | None) -> bool:
    return since is None or tenure.until is None or tenure.until >= since
