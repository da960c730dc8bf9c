"""The key that signs the cursors of lists."""

from sqlalchemy import Column, LargeBinary, Table, select

from lastmile.db import Database, metadata

__all__ = ["cursor_key", "read_cursor_key"]

cursor_key = Table("cursor_key", metadata, Column("key", LargeBinary, primary_key=True))


async def read_cursor_key(database: Database) -> bytes:
    """Return the key of this installation, which all processes of the API share."""
    async with database.platform() as connection:
        key: bytes = (await connection.execute(select(cursor_key.c.key))).scalar_one()
        return key
