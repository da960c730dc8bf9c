"""RADIUS accounts in FreeRADIUS's own SQL schema, so that a stock FreeRADIUS serves them.

A password is made where it is stored and is returned to nobody but who asks for it by name (`password_of`).
"""

import secrets
from collections.abc import Iterable

from sqlalchemy import delete, literal, select
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.rates import rate_items
from lastmile.radius.tables import radcheck, radgroupreply, radreply, radusergroup

__all__ = [
    "add_reply_items",
    "block_account",
    "create_account",
    "delete_account",
    "password_of",
    "remove_reply_items",
    "speed_of",
    "unblock_account",
    "username",
    "write_reply_items",
]

PASSWORD = "Cleartext-Password"


def username(tenant: str, subscriber_ref: str) -> str:
    """The subscriber's network access identifier (RFC 7542).

    Its realm names the tenant, which row-level security on FreeRADIUS's tables relies on, and has the dot
    that FreeRADIUS's stock `filter_username` asks of every realm.
    """
    return f"{subscriber_ref}@{tenant}.lastmile"


async def create_account(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    *,
    plan: str,
    download_kbps: int,
    upload_kbps: int,
) -> str:
    """Make the account and its plan's group; returns the order that created it (an earlier one, where it exists).

    Raises `AccountConflictError` where the account is on another plan.
    """
    user = username(tenant, subscriber_ref)
    group = _group(tenant, plan, download_kbps, upload_kbps)
    await connection.execute(
        insert(radgroupreply)
        .values(
            [
                {"groupname": group, "attribute": attribute, "op": ":=", "value": value}
                for attribute, value in rate_items(download_kbps, upload_kbps)
            ]
        )
        .on_conflict_do_nothing()
    )
    made = await connection.scalar(
        insert(radcheck)
        .values(
            username=user,
            attribute=PASSWORD,
            op=":=",
            value=secrets.token_urlsafe(18),
            created_by_order=order_id,
        )
        .on_conflict_do_nothing()
        .returning(radcheck.c.created_by_order)
    )
    if made is not None:
        await connection.execute(insert(radusergroup).values(username=user, groupname=group).on_conflict_do_nothing())
        return order_id
    found = (
        await connection.execute(
            select(radcheck.c.created_by_order, radusergroup.c.groupname)
            .join(radusergroup, radusergroup.c.username == radcheck.c.username)
            .where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
        )
    ).one()
    if found.groupname != group:
        raise AccountConflictError(
            f"plan: {user} is in group {found.groupname.partition('@')[0]}, not {group.partition('@')[0]}: "
            "deprovision the line before selling it another plan"
        )
    return str(found.created_by_order)


def _group(tenant: str, plan: str, download_kbps: int, upload_kbps: int) -> str:
    return f"{plan}-{download_kbps}-{upload_kbps}@{tenant}.lastmile"


async def speed_of(connection: TenantConnection, user: str) -> tuple[int, int] | None:
    """The download and upload speed of the account's plan in kbit/s; None where there is no account."""
    group = await connection.scalar(select(radusergroup.c.groupname).where(radusergroup.c.username == user))
    if group is None:
        return None
    _, download, upload = str(group).partition("@")[0].rsplit("-", 2)
    return int(download), int(upload)


async def block_account(connection: TenantConnection, user: str, order_id: str | None = None) -> None:
    """Refuse every login from now on; with `order_id` only if that order created the account.

    Without it the CPE whose session is being ended would be back before its account is gone.
    """
    account = select(
        radcheck.c.username, literal("Auth-Type"), literal(":="), literal("Reject"), radcheck.c.created_by_order
    ).where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
    if order_id is not None:
        account = account.where(radcheck.c.created_by_order == order_id)
    columns = ["username", "attribute", "op", "value", "created_by_order"]
    await connection.execute(insert(radcheck).from_select(columns, account).on_conflict_do_nothing())


async def unblock_account(connection: TenantConnection, user: str) -> None:
    """Take back `block_account`; a block that somebody else set (without an order) stays."""
    ours = radcheck.c.created_by_order.is_not(None)
    await connection.execute(
        delete(radcheck).where(radcheck.c.username == user, radcheck.c.attribute == "Auth-Type", ours)
    )


async def delete_account(connection: TenantConnection, user: str, order_id: str | None = None) -> bool:
    """Remove the account and all its items; with `order_id` only if that order created it.

    The plan's group stays: it is the plan's, not the subscriber's.
    """
    statement = delete(radcheck).where(radcheck.c.username == user)
    if order_id is not None:
        statement = statement.where(radcheck.c.created_by_order == order_id)
    if (await connection.execute(statement)).rowcount == 0:
        return False
    await connection.execute(delete(radreply).where(radreply.c.username == user))
    await connection.execute(delete(radusergroup).where(radusergroup.c.username == user))
    return True


async def write_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Put these attributes into the user's Access-Accepts, each in place of an earlier value."""
    items = list(items)
    for attribute, value in items:
        await connection.execute(
            delete(radreply).where(
                radreply.c.username == user, radreply.c.attribute == attribute, radreply.c.value != value
            )
        )
    await add_reply_items(connection, user, items)


async def add_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Put these attributes into the user's Access-Accepts, beside other values of the same attributes."""
    for attribute, value in items:
        await connection.execute(
            insert(radreply).values(username=user, attribute=attribute, op=":=", value=value).on_conflict_do_nothing()
        )


async def remove_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Take exactly these attributes and values out of the user's Access-Accepts."""
    for attribute, value in items:
        await connection.execute(
            delete(radreply).where(
                radreply.c.username == user, radreply.c.attribute == attribute, radreply.c.value == value
            )
        )


async def password_of(connection: TenantConnection, user: str) -> str | None:
    """The account's password in clear, for whoever sets up the CPE; None where there is no account."""
    return await connection.scalar(
        select(radcheck.c.value).where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
    )
