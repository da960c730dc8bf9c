"""NAS: the access servers that receive Disconnect and CoA requests (RFC 5176)."""

from typing import Any

from lastmile.db import Database
from lastmile.radius import nas
from lastmile.radius.errors import UnknownNasError
from lastmile.radius.nas import NasChange, NasRecord

__all__ = ["add_nas", "change_nas", "find_nas", "list_nas", "remove_nas"]


async def add_nas(database: Database, record: NasRecord, *, actor: str) -> bool:
    """Add a NAS. Return False if it exists already. Raises `NasConflictError`."""
    async with database.platform(actor=actor) as connection:
        return await nas.add_nas(connection, record)


async def change_nas(database: Database, name: str, change: NasChange, *, actor: str) -> dict[str, Any]:
    """Change the NAS of this name or address, and return it without its secret. Raises `UnknownNasError`."""
    async with database.platform(actor=actor) as connection:
        return dict(await nas.set_nas(connection, name, change))


async def remove_nas(database: Database, name: str, *, force: bool, actor: str) -> dict[str, Any]:
    """Remove the NAS, with `force` also one with open sessions. Raises `UnknownNasError` and `NasInUseError`."""
    async with database.platform(actor=actor) as connection:
        return dict(await nas.remove_nas(connection, name, force=force))


async def list_nas(database: Database) -> list[dict[str, Any]]:
    """Return all NAS without their secrets."""
    async with database.platform() as connection:
        return [dict(row) for row in await nas.list_nas(connection)]


async def find_nas(database: Database, name: str) -> list[dict[str, Any]]:
    """Return the NAS of this name or address, without secrets. Raises `UnknownNasError`."""
    if found := [one for one in await list_nas(database) if name in (one["name"], one["address"])]:
        return found
    raise UnknownNasError(f"There is no NAS of name or address {name}: `lastmile nas list` lists all NAS.")
