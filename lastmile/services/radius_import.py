"""The orders that would adopt the accounts of a FreeRADIUS database which another system has filled.

Reads PostgreSQL with FreeRADIUS's own tables, and changes nothing there.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from lastmile.contract import ProvisionSubscriber
from lastmile.contract.addressing import IPv4Mode, IPv6Mode, Purpose
from lastmile.db.access import database_failures
from lastmile.errors import InvalidInputError
from lastmile.radius.escaping import unescaped
from lastmile.radius.foreign_accounts import ForeignAccount, Item, UnfitAccountError, read_account, read_rates
from lastmile.validation_messages import mistakes

__all__ = ["FoundAccount", "read_accounts"]

ITEMS = ("check", "reply")
TABLES = ("radcheck", "radreply", "radusergroup", "radgroupreply")
_ROWS = text(
    """
    SELECT username, 'check' AS kind, attribute, op, value, 0 AS priority FROM radcheck
    UNION ALL SELECT username, 'reply', attribute, op, value, 0 FROM radreply
    UNION ALL SELECT username, 'group', groupname, '', '', priority FROM radusergroup
    ORDER BY username, kind, priority, attribute
    """
)
_MODES = {Purpose.IPV6_PD: IPv6Mode.PD, Purpose.IPV6_FRAMED: IPv6Mode.SLAAC, Purpose.IPV6_ADDRESS: IPv6Mode.STATEFUL}


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """An account, with the order that would adopt its line, or with the reason why no order would."""

    username: str
    order: ProvisionSubscriber | None = None
    problem: str = ""
    remarks: tuple[str, ...] = ()
    """What differs from the account once the line is adopted."""


async def read_accounts(url: str, tenant: str, connection_type: str) -> AsyncIterator[FoundAccount]:
    """Yield every account of the database at `url`, by user name.

    Raises `InvalidInputError` for a URL or a database that is none of FreeRADIUS's, and `UnavailableError`.
    """
    scheme, _, place = url.partition("://")
    if scheme not in ("postgresql", "postgres") or not place:
        raise InvalidInputError(
            "The URL must begin with postgresql://. Copy a database of another kind into PostgreSQL first."
        )
    engine = create_async_engine(f"postgresql+asyncpg://{place}")
    try:
        async with database_failures(f"postgresql://{place}"), engine.connect() as connection:
            await _check_tables(connection)
            rates = await _read_group_rates(connection)
            refs: dict[str, str] = {}
            for username, rows in groupby(await connection.execute(_ROWS), key=lambda row: row.username):
                yield _found(tenant, connection_type, username, list(rows), rates, refs)
    finally:
        await engine.dispose()


async def _check_tables(connection: AsyncConnection) -> None:
    missing = [
        table for table in TABLES if await connection.scalar(text("SELECT to_regclass(:name) IS NULL"), {"name": table})
    ]
    if missing:
        raise InvalidInputError(f"The database has no table {', '.join(missing)}: it is no database of FreeRADIUS.")


async def _read_group_rates(connection: AsyncConnection) -> dict[str, tuple[int, int]]:
    rows = await connection.execute(
        text("SELECT groupname, attribute, op, value FROM radgroupreply ORDER BY groupname")
    )
    found = {
        name: read_rates(Item(row.attribute, row.op, row.value) for row in items)
        for name, items in groupby(rows, key=lambda row: row.groupname)
    }
    return {name: rates for name, rates in found.items() if rates is not None}


def _found(
    tenant: str,
    connection_type: str,
    stored: str,
    rows: list[Any],
    rates: dict[str, tuple[int, int]],
    refs: dict[str, str],
) -> FoundAccount:
    """`stored` is the user name as FreeRADIUS looks it up. `refs` has that of each reference so far."""
    items = {kind: [Item(row.attribute, row.op, row.value) for row in rows if row.kind == kind] for kind in ITEMS}
    groups = [(row.priority, row.attribute) for row in rows if row.kind == "group"]
    username = unescaped(stored)
    ref = _reference(username)
    if (other := refs.setdefault(ref, stored)) != stored:
        return FoundAccount(username, problem=f"its reference would be {ref}, as that of {unescaped(other)}")
    try:
        account = read_account(items["check"], items["reply"], groups, rates)
        order = ProvisionSubscriber.model_validate(_order(tenant, connection_type, username, ref, account))
    except UnfitAccountError as reason:
        return FoundAccount(username, problem=str(reason))
    except ValidationError as failure:
        return FoundAccount(username, problem="; ".join(mistakes(failure, ProvisionSubscriber)))
    return FoundAccount(username, order, remarks=account.remarks)


def _order(tenant: str, connection_type: str, username: str, ref: str, account: ForeignAccount) -> dict[str, Any]:
    download, upload = account.rates
    line = {"connection_type": connection_type, "username": username}
    if account.password is None:
        line["access"] = "ipoe"
    return {
        "tenant": tenant,
        "order_id": f"takeover-{ref}"[:64],
        "subscriber_ref": ref,
        "customer": {"ref": ref, "name": username},
        "plan": {
            "name": _plan(account.group) or f"{download}-{upload}",
            "download_kbps": download,
            "upload_kbps": upload,
        },
        "line": line,
        "addressing": _addressing(account),
        "adopt": True,
        "password": account.password,
    }


def _addressing(account: ForeignAccount) -> dict[str, Any]:
    asked: dict[str, Any] = {"enable_ipv6": False, "ipv4_mode": IPv4Mode.DYNAMIC}
    if account.ipv4 is not None:
        asked |= {"ipv4_mode": IPv4Mode.STATIC, "ipv4_address": account.ipv4}
    if account.ipv6 is not None:
        purpose, prefix = account.ipv6
        asked |= {"enable_ipv6": True, "ipv6_mode": _MODES[purpose], "ipv6_prefix": prefix}
        if purpose is Purpose.IPV6_PD:
            asked["ipv6_pd_size"] = prefix.prefixlen
    return asked


def _reference(username: str) -> str:
    """Return a reference that is made of the user name: a character that it cannot have becomes `-`."""
    kept = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9_.-]+", "-", username))
    return kept.strip("-_.")[:64].rstrip(".") or "x"


def _plan(group: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", group).strip("-_")[:64]
