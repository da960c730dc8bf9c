"""The items of a user's Access-Accept: rows of `radreply`."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.radius.tables import radreply

__all__ = ["add_reply_items", "remove_reply_items", "write_reply_items"]

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
_REMOVE_REPLY_ITEMS = DirectStatement(
    """
    DELETE FROM radreply
    WHERE username = :username
      AND (attribute, value) IN (SELECT * FROM unnest(CAST(:attributes AS text[]), CAST(:values AS text[])))
    """
)


async def write_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Set these attributes in the user's Access-Accept. Each replaces earlier values of the same attribute."""
    await _WRITE_REPLY_ITEMS.count(connection, _items(user, items))


async def add_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Add these attributes to the user's Access-Accept. Other values of the same attributes stay."""
    for attribute, value in items:
        await connection.execute(
            insert(radreply).values(username=user, attribute=attribute, op=":=", value=value).on_conflict_do_nothing()
        )


async def remove_reply_items(connection: TenantConnection, user: str, items: Iterable[tuple[str, str]]) -> None:
    """Remove exactly these attributes and values from the user's Access-Accept."""
    await _REMOVE_REPLY_ITEMS.count(connection, _items(user, items))


def _items(user: str, items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    items = list(items)
    return {
        "username": user,
        "attributes": [attribute for attribute, _ in items],
        "values": [value for _, value in items],
    }
