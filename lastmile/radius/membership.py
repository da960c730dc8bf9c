"""The group that an account is in, and the items of each group."""

from collections.abc import Sequence

from sqlalchemy import delete, select, text, update

from lastmile.db import PlatformConnection, TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.radius.catalogue import Catalogue, read_catalogue
from lastmile.radius.groups import Group
from lastmile.radius.tables import radgroupcheck, radgroupreply, radusergroup
from lastmile.radius.templates import Item

__all__ = ["create_group", "lock_groups", "move_account", "read_group", "read_speed", "rewrite_groups"]

_HAS_ITEMS = DirectStatement(
    """
    SELECT 1 AS found WHERE EXISTS (SELECT FROM radgroupreply WHERE groupname = :groupname)
                         OR EXISTS (SELECT FROM radgroupcheck WHERE groupname = :groupname)
    """
)
# An attribute that the group has already stays as it is. The unique key keeps the items of two first accounts single.
_WRITE_ITEMS = {
    table: DirectStatement(
        f"""
        INSERT INTO {table} (groupname, attribute, op, value)
        SELECT :groupname, attribute, op, value
        FROM unnest(CAST(:attributes AS text[]), CAST(:ops AS text[]), CAST(:values AS text[]))
             AS item (attribute, op, value)
        WHERE NOT EXISTS (
            SELECT FROM {table} present WHERE present.groupname = :groupname AND present.attribute = item.attribute)
        ON CONFLICT DO NOTHING
        """
    )
    for table in ("radgroupreply", "radgroupcheck")
}
_GROUP_NAMES = text(
    """
    SELECT groupname FROM radusergroup UNION SELECT groupname FROM radgroupreply
    UNION SELECT groupname FROM radgroupcheck
    """
)


async def read_group(connection: TenantConnection, user: str) -> Group | None:
    """Return the group of the account's plan; None if there is no account."""
    names = await connection.scalars(
        select(radusergroup.c.groupname).where(radusergroup.c.username == user).order_by(radusergroup.c.id)
    )
    return next((group for name in names if (group := Group.parse(name)) is not None), None)


async def read_speed(connection: TenantConnection, user: str) -> tuple[int, int] | None:
    """Return the download and upload speed of the account's plan in kbit/s; None if there is no account."""
    group = await read_group(connection, user)
    return None if group is None else (group.download_kbps, group.upload_kbps)


async def move_account(connection: TenantConnection, user: str, group: Group) -> Group | None:
    """Put the account into `group`, and return the group that it was in. None: there is no account.

    Raises:
        InvalidAttributeError: a template of the tenant cannot say the rates of the plan.
    """
    before = await read_group(connection, user)
    if before is None or before == group:
        return before
    if await _HAS_ITEMS.one_or_none(connection, {"groupname": group.name}) is None:
        await create_group(connection, group)
    await connection.execute(
        update(radusergroup)
        .where(radusergroup.c.username == user, radusergroup.c.groupname == before.name)
        .values(groupname=group.name)
    )
    return before


async def create_group(connection: TenantConnection, group: Group) -> None:
    """Write the items of a new group from the templates of its tenant. An attribute that the group has stays.

    Raises:
        InvalidAttributeError: a template of the tenant cannot say the rates of the plan.
    """
    await lock_groups(connection)
    await _write_group(connection, await read_catalogue(connection), group)


async def lock_groups(connection: TenantConnection | PlatformConnection, *, exclusively: bool = False) -> None:
    """Keep the templates of all groups from changing until the transaction ends; with `exclusively`, the groups too.

    Without the lock, a new group could get the items of a template that another transaction has just replaced.
    """
    mode = "SHARE ROW EXCLUSIVE" if exclusively else "ROW EXCLUSIVE"
    await connection.execute(text(f"LOCK TABLE radgroupreply IN {mode} MODE"))


async def rewrite_groups(connection: PlatformConnection, before: Catalogue, after: Catalogue) -> int:
    """Replace the items from `before` with those from `after` in every group, and return the number of changed groups.

    Items of an operator stay. Call `lock_groups` first.

    Raises:
        InvalidAttributeError: a new template cannot say the rates of a plan that is in use.
    """
    changed = 0
    for name in (await connection.scalars(_GROUP_NAMES)).all():
        group = Group.parse(name)
        if group is None or (old := before.reply_items(group)) == after.reply_items(group):
            continue
        for item in old:
            await connection.execute(
                delete(radgroupreply).where(
                    radgroupreply.c.groupname == name,
                    radgroupreply.c.attribute == item.attribute,
                    radgroupreply.c.value == item.value,
                )
            )
        await _write_group(connection, after, group)
        changed += 1
    return changed


async def _write_group(connection: TenantConnection | PlatformConnection, catalogue: Catalogue, group: Group) -> None:
    for table, items in ((radgroupreply, catalogue.reply_items(group)), (radgroupcheck, catalogue.check_items(group))):
        if items:
            await _WRITE_ITEMS[table.name].all(connection, {"groupname": group.name} | _columns(items))


def _columns(items: Sequence[Item]) -> dict[str, list[str]]:
    return {
        "attributes": [item.attribute for item in items],
        "ops": [item.operator for item in items],
        "values": [item.value for item in items],
    }
