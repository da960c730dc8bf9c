"""The comparison of NetBox with the database on request, with the repair of each difference."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, pools_in_netbox
from ipam.netbox.reconcile.differences import Difference
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from lastmile.db import Database
from lastmile.errors import InvalidInputError

__all__ = ["ComparedDifference", "compare", "find_pools"]


@dataclass(frozen=True, slots=True)
class ComparedDifference:
    """A difference between NetBox and the database."""

    difference: Difference
    problem: str | None = None
    """Why it was not repaired; empty: it was repaired; None: no repair was tried."""

    @property
    def repaired(self) -> bool:
        return self.problem == ""


async def find_pools(database: Database, name: str | None = None) -> list[BoundPool]:
    """Return the pools in NetBox, or those of one name. Raises `InvalidInputError` if none has this name."""
    async with database.platform() as connection:
        known = await pools_in_netbox(connection)
    if name is None:
        return known
    if not (named := [pool for pool in known if pool.name == name]):
        others = f"; there is {', '.join(sorted({pool.name for pool in known}))}" if known else ""
        raise InvalidInputError(f"There is no pool {name!r} that is kept in NetBox{others}.")
    return named


async def compare(
    database: Database, netbox: NetBox, pools: Sequence[BoundPool], *, everything: bool, repairing: bool
) -> AsyncIterator[ComparedDifference]:
    """Yield each difference, with `repairing` after its repair.

    Without `everything`, compares only the records that changed since the last comparison. Raises `NetBoxError`.
    """
    async for found in differences(database, netbox, pools=pools, everything=everything):
        problem = await repair(database, netbox, found) if repairing else None
        yield ComparedDifference(found, problem)
