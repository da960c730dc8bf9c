"""RADIUS accounts in FreeRADIUS's own SQL schema, served by an unmodified FreeRADIUS."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from lastmile.contract.lines import Line
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.radius import former_usernames
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.escaping import unescaped
from lastmile.radius.groups import Group
from lastmile.radius.logins import (
    OPTION82_ATTRIBUTES,
    PORT_ATTRIBUTE,
    check_items,
    credential,
    port_items,
    stored_username,
    username,
)
from lastmile.radius.membership import create_group
from lastmile.radius.passwords import generate_password, replace_password
from lastmile.radius.reply_items import write_reply_items
from lastmile.radius.tables import is_account, is_managed, radcheck, radreply, radusergroup

__all__ = [
    "CreatedAccount",
    "block_account",
    "create_account",
    "delete_account",
    "find_username",
    "follow_line",
    "unblock_account",
]

# The group of a plan gets its items with the first account of the plan.
_CREATE_ACCOUNT = DirectStatement(
    """
    WITH account AS (
        INSERT INTO radcheck (username, attribute, op, value, tenant_id, subscriber_ref, created_by_order)
        SELECT :username, :attribute, ':=', :value, :tenant, :subscriber_ref, :order_id
        WHERE NOT lastmile_is_foreign_account(:username)
        ON CONFLICT DO NOTHING RETURNING username
    ), checked AS (
        INSERT INTO radcheck (username, attribute, op, value, tenant_id, subscriber_ref, created_by_order)
        SELECT username, attribute, '==', value, :tenant, :subscriber_ref, :order_id
        FROM account, unnest(CAST(:checked AS text[]), CAST(:checked_values AS text[])) AS item (attribute, value)
    ), replied AS (
        INSERT INTO radreply (username, attribute, op, value, tenant_id)
        SELECT username, attribute, ':=', value, :tenant
        FROM account, unnest(CAST(:replied AS text[]), CAST(:replied_values AS text[])) AS item (attribute, value)
    ), member AS (
        INSERT INTO radusergroup (username, groupname, tenant_id) SELECT username, :groupname, :tenant FROM account
        ON CONFLICT DO NOTHING
    )
    SELECT username, EXISTS (SELECT FROM radgroupreply WHERE groupname = :groupname) AS group_exists FROM account
    """
)
_FIND_USERNAME = DirectStatement(
    """
    SELECT username FROM radcheck
    WHERE tenant_id = :tenant AND tenant_id <> '' AND subscriber_ref = :subscriber_ref
      AND lastmile_is_account(attribute, value)
    """
)
_BLOCK_ACCOUNT = DirectStatement(
    """
    INSERT INTO radcheck (username, attribute, op, value, created_by_order)
    SELECT username, 'Auth-Type', ':=', 'Reject', created_by_order FROM radcheck
    WHERE username = :username AND lastmile_is_account(attribute, value)
      AND (CAST(:order_id AS text) IS NULL OR created_by_order = :order_id)
    ON CONFLICT DO NOTHING
    """
)
_UNBLOCK_ACCOUNT = DirectStatement(
    """
    DELETE FROM radcheck
    WHERE username = :username AND attribute = 'Auth-Type' AND value = 'Reject' AND created_by_order IS NOT NULL
    """
)
_DELETE_ACCOUNT = DirectStatement(
    """
    WITH account AS (
        DELETE FROM radcheck
        WHERE username = :username AND (CAST(:order_id AS text) IS NULL OR created_by_order = :order_id)
        RETURNING username
    ), replied AS (
        DELETE FROM radreply WHERE username = :username AND EXISTS (SELECT FROM account)
    ), member AS (
        DELETE FROM radusergroup WHERE username = :username AND EXISTS (SELECT FROM account)
    )
    SELECT EXISTS (SELECT FROM account)
    """
)


@dataclass(frozen=True, slots=True)
class CreatedAccount:
    """An account as FreeRADIUS looks it up, and the order that created it."""

    username: str
    created_by_order: str
    made_now: bool = False
    """Whether the call made the account, and found none."""


async def find_username(connection: TenantConnection, tenant: str, subscriber_ref: str) -> str:
    """Return the user name of the subscriber's account; without an account, the one that Lastmile would generate."""
    values = {"tenant": tenant, "subscriber_ref": subscriber_ref}
    found = await _FIND_USERNAME.one_or_none(connection, values)
    return username(tenant, subscriber_ref) if found is None else str(found.username)


async def create_account(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    line: Line,
    *,
    password: str | None = None,
    plan: str,
    download_kbps: int,
    upload_kbps: int,
) -> CreatedAccount:
    """Create the account of the line and the group of its plan. Without `password`, generate one.

    If the account exists, return the order that created it then. An account of the order itself gets `password`: the
    order has taken the account over from a lost order, which may have given another one.

    Raises:
        AccountConflictError: another line has the user name, or the account of another order has another plan, user
            name or password.
        InvalidAttributeError: a template of the tenant cannot say the rates of the plan.
    """
    user = stored_username(tenant, subscriber_ref, line)
    attribute, value = credential(line, password or generate_password())
    checked, replied = check_items(line), dict(port_items(line))
    group = Group(tenant, plan, download_kbps, upload_kbps)
    made = await _CREATE_ACCOUNT.one_or_none(
        connection,
        {
            "username": user,
            "attribute": attribute,
            "value": value,
            "tenant": tenant,
            "subscriber_ref": subscriber_ref,
            "order_id": order_id,
            "checked": [*checked],
            "checked_values": [*checked.values()],
            "replied": [*replied],
            "replied_values": [*replied.values()],
            "groupname": group.name,
        },
    )
    if made is not None:
        if not made.group_exists:
            await create_group(connection, group)
        return CreatedAccount(user, order_id, made_now=True)
    found = (
        await connection.execute(
            select(radcheck.c.username, radcheck.c.value, radcheck.c.created_by_order, radusergroup.c.groupname)
            .join(radusergroup, radusergroup.c.username == radcheck.c.username)
            .where(
                radcheck.c.tenant_id == tenant, radcheck.c.subscriber_ref == subscriber_ref, is_account(), is_managed()
            )
        )
    ).one_or_none()
    if found is None:
        raise _taken(user, await _owner(connection, user))
    if found.username != user:
        raise AccountConflictError(
            f"line: the line has an account with user name {unescaped(found.username)}, not with {unescaped(user)}. "
            "Deprovision the line before you provision it with another user name."
        )
    if found.groupname != group.name:
        raise AccountConflictError(
            f"plan: account {user} is in group {found.groupname.partition('@')[0]}, not in {group.plan_name}. "
            "Order change_plan for a line in service, or deprovision the line first."
        )
    if password is not None and password != found.value:
        if found.created_by_order != order_id:
            raise AccountConflictError(
                f"password: account {user} exists since order {found.created_by_order} with another password. "
                "Order rotate_credentials to give the line this password."
            )
        await replace_password(connection, tenant, subscriber_ref, password)
    return CreatedAccount(user, str(found.created_by_order))


async def follow_line(connection: TenantConnection, tenant: str, subscriber_ref: str, line: Line) -> tuple[str, str]:
    """Give the account the user name and the option 82 items of its line, which has changed. Keep its password.

    Return the user name before and after. Live sessions keep the former user name: the caller ends them after the
    commit.

    Raises:
        AccountConflictError: another line has the new user name, or the user name looks like a generated one.
    """
    before, after = (
        await find_username(connection, tenant, subscriber_ref),
        stored_username(tenant, subscriber_ref, line),
    )
    if before != after:
        if await connection.scalar(select(func.lastmile_is_foreign_account(after))):
            raise _taken(after, await _owner(connection, after))
        for table in (radcheck, radreply, radusergroup):
            try:
                await connection.execute(update(table).where(table.c.username == before).values(username=after))
            except IntegrityError:
                raise _taken(after, "another line") from None
        await former_usernames.record(connection, tenant, before, after)
    await connection.execute(
        delete(radcheck).where(radcheck.c.username == after, radcheck.c.attribute.in_(OPTION82_ATTRIBUTES))
    )
    await connection.execute(
        delete(radreply).where(radreply.c.username == after, radreply.c.attribute == PORT_ATTRIBUTE)
    )
    account = select(radcheck.c.created_by_order).where(radcheck.c.username == after, is_account())
    if checked := check_items(line):
        order_id = await connection.scalar(account)
        rows = [
            {"username": after, "attribute": name, "op": "==", "value": value, "created_by_order": order_id}
            for name, value in checked.items()
        ]
        await connection.execute(insert(radcheck).values(rows))
    await write_reply_items(connection, after, port_items(line))
    return before, after


def _taken(user: str, owner: str) -> AccountConflictError:
    return AccountConflictError(
        f"line: user name {unescaped(user)} already belongs to {owner}. "
        "A RADIUS user name identifies one line: order another, or deprovision that line first."
    )


async def _owner(connection: TenantConnection, user: str) -> str:
    """Say whose account has the user name, as far as the tenant may know."""
    ref = await connection.scalar(select(radcheck.c.subscriber_ref).where(radcheck.c.username == user, is_account()))
    return f"subscriber {ref}'s line" if ref else "an account that is none of this tenant's lines"


async def block_account(connection: TenantConnection, user: str, order_id: str | None = None) -> None:
    """Refuse every login of the account from now on; with `order_id`, only if that order created the account.

    Without the block a CPE could log in again between the end of its session and the deletion of its account.
    """
    await _BLOCK_ACCOUNT.count(connection, {"username": user, "order_id": order_id})


async def unblock_account(connection: TenantConnection, user: str) -> None:
    """Remove the block that an order set. A block without an order, set by an operator, stays."""
    await _UNBLOCK_ACCOUNT.count(connection, {"username": user})


async def delete_account(connection: TenantConnection, user: str, order_id: str | None = None) -> bool:
    """Delete the account and all its items; with `order_id`, only if that order created the account.

    The group of the plan stays, since other accounts use it. Return False if there was nothing to delete.
    """
    return bool(await _DELETE_ACCOUNT.scalar(connection, {"username": user, "order_id": order_id}))
