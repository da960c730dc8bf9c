"""RADIUS accounts in FreeRADIUS's own SQL schema, served by an unmodified FreeRADIUS.

A password is generated in the function that stores it. Only `read_password` returns a password.
"""

import secrets
from collections.abc import Iterable

from sqlalchemy import delete, literal, select
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.rates import rate_items
from lastmile.radius.tables import radcheck, radreply, radusergroup

__all__ = [
    "add_reply_items",
    "block_account",
    "create_account",
    "delete_account",
    "read_password",
    "read_speed",
    "remove_reply_items",
    "unblock_account",
    "username",
    "write_reply_items",
]

PASSWORD = "Cleartext-Password"

# The group of a plan is made by the first account of the plan.
_CREATE_ACCOUNT = DirectStatement(
    f"""
    WITH plan AS (
        INSERT INTO radgroupreply (groupname, attribute, op, value)
        SELECT :groupname, attribute, ':=', value
        FROM unnest(CAST(:attributes AS text[]), CAST(:values AS text[])) AS item (attribute, value)
        ON CONFLICT DO NOTHING
    ), account AS (
        INSERT INTO radcheck (username, attribute, op, value, created_by_order)
        VALUES (:username, '{PASSWORD}', ':=', :password, :order_id)
        ON CONFLICT DO NOTHING RETURNING username
    ), member AS (
        INSERT INTO radusergroup (username, groupname) SELECT username, :groupname FROM account ON CONFLICT DO NOTHING
    )
    SELECT username FROM account
    """
)
_UNBLOCK_ACCOUNT = DirectStatement(
    """
    DELETE FROM radcheck
    WHERE username = :username AND attribute = 'Auth-Type' AND created_by_order IS NOT NULL
    """
)
# What is deleted is no item of the statement, so that it does not keep an item from being inserted.
_WRITE_REPLY_ITEMS = DirectStatement(
    """
    WITH item AS (
        SELECT * FROM unnest(CAST(:attributes AS text[]), CAST(:values AS text[])) AS item (attribute, value)
    ), replaced AS (
        DELETE FROM radreply
        WHERE username = :username AND attribute IN (SELECT attribute FROM item)
          AND (attribute, value) NOT IN (SELECT attribute, value FROM item)
    )
    INSERT INTO radreply (username, attribute, op, value) SELECT :username, attribute, ':=', value FROM item
    ON CONFLICT DO NOTHING
    """
)


def username(tenant: str, subscriber_ref: str) -> str:
    """Return the subscriber's network access identifier (RFC 7542).

    The realm names the tenant: row-level security on FreeRADIUS's tables reads the tenant from the realm. The realm
    contains a dot, since FreeRADIUS's stock `filter_username` rejects a realm without one.
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
    """Create the account and the group of its plan, and return the id of the order that created the account.

    If the account exists, return the id of the order that created it then.

    Raises:
        AccountConflictError: the account exists with another plan.
    """
    user = username(tenant, subscriber_ref)
    group = _group(tenant, plan, download_kbps, upload_kbps)
    rates = rate_items(download_kbps, upload_kbps)
    made = await _CREATE_ACCOUNT.one_or_none(
        connection,
        {
            "username": user,
            "password": secrets.token_urlsafe(18),
            "order_id": order_id,
            "groupname": group,
            "attributes": [attribute for attribute, _ in rates],
            "values": [value for _, value in rates],
        },
    )
    if made is not None:
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
            f"plan: account {user} is in group {found.groupname.partition('@')[0]}, not in {group.partition('@')[0]}. "
            "Deprovision the line before you provision it with another plan."
        )
    return str(found.created_by_order)


def _group(tenant: str, plan: str, download_kbps: int, upload_kbps: int) -> str:
    return f"{plan}-{download_kbps}-{upload_kbps}@{tenant}.lastmile"


async def read_speed(connection: TenantConnection, user: str) -> tuple[int, int] | None:
    """Return the download and upload speed of the account's plan in kbit/s; None if there is no account."""
    group = await connection.scalar(select(radusergroup.c.groupname).where(radusergroup.c.username == user))
    if group is None:
        return None
    _, download, upload = str(group).partition("@")[0].rsplit("-", 2)
    return int(download), int(upload)


async def block_account(connection: TenantConnection, user: str, order_id: str | None = None) -> None:
    """Refuse every login of the account from now on; with `order_id`, only if that order created the account.

    Without the block a CPE could log in again between the end of its session and the deletion of its account.
    """
    account = select(
        radcheck.c.username, literal("Auth-Type"), literal(":="), literal("Reject"), radcheck.c.created_by_order
    ).where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
    if order_id is not None:
        account = account.where(radcheck.c.created_by_order == order_id)
    columns = ["username", "attribute", "op", "value", "created_by_order"]
    await connection.execute(insert(radcheck).from_select(columns, account).on_conflict_do_nothing())


async def unblock_account(connection: TenantConnection, user: str) -> None:
    """Remove the block that an order set. A block without an order, set by an operator, stays."""
    await _UNBLOCK_ACCOUNT.all(connection, {"username": user})


async def delete_account(connection: TenantConnection, user: str, order_id: str | None = None) -> bool:
    """Delete the account and all its items; with `order_id`, only if that order created the account.

    The group of the plan stays, since other accounts use it. Return False if there was nothing to delete.
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
    """Set these attributes in the user's Access-Accept. Each replaces earlier values of the same attribute."""
    items = list(items)
    await _WRITE_REPLY_ITEMS.all(
        connection,
        {
            "username": user,
            "attributes": [attribute for attribute, _ in items],
            "values": [value for _, value in items],
        },
    )


async def add_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Add these attributes to the user's Access-Accept. Other values of the same attributes stay."""
    for attribute, value in items:
        await connection.execute(
            insert(radreply).values(username=user, attribute=attribute, op=":=", value=value).on_conflict_do_nothing()
        )


async def remove_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Remove exactly these attributes and values from the user's Access-Accept."""
    for attribute, value in items:
        await connection.execute(
            delete(radreply).where(
                radreply.c.username == user, radreply.c.attribute == attribute, radreply.c.value == value
            )
        )


async def read_password(connection: TenantConnection, user: str) -> str | None:
    """Return the account's password in clear text, to configure the CPE; None if there is no account."""
    return await connection.scalar(
        select(radcheck.c.value).where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
    )
