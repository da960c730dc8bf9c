"""Failed repairs in NetBox, with the reason, until the difference is gone or a repair succeeds.

Without them each comparison would promise again what `--repair` could not do.
"""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.netbox.binding import BoundPool
from ipam.netbox.reconcile.differences import Difference

__all__ = ["failed_repairs", "keep_only", "remember"]

_FAILED = text(
    """
    INSERT INTO netbox_failed_repairs (pool_id, about, problem) VALUES (:pool_id, :about, :problem)
    ON CONFLICT (pool_id, about) DO UPDATE SET problem = excluded.problem, tried_at = now()
    """
)
_DONE = text("DELETE FROM netbox_failed_repairs WHERE pool_id = :pool_id AND about = :about")
_ALL = text("SELECT about, problem FROM netbox_failed_repairs WHERE pool_id = :pool_id")
_KEEP_ONLY = text("DELETE FROM netbox_failed_repairs WHERE pool_id = :pool_id AND NOT about = ANY(:abouts)")


async def remember(connection: AsyncConnection, difference: Difference, problem: str) -> None:
    """Record why the difference could not be repaired; with an empty problem, that it was repaired."""
    place = {"pool_id": difference.pool.id, "about": difference.about}
    if problem:
        await connection.execute(_FAILED, place | {"problem": problem})
    else:
        await connection.execute(_DONE, place)


async def failed_repairs(connection: AsyncConnection, pool: BoundPool) -> dict[str, str]:
    """Return why repairs in this pool failed, by `Difference.about`."""
    rows = await connection.execute(_ALL, {"pool_id": pool.id})
    return {row.about: row.problem for row in rows}


async def keep_only(connection: AsyncConnection, pool: BoundPool, abouts: Iterable[str]) -> None:
    """Delete failed repairs of all differences but these: the others are gone."""
    await connection.execute(_KEEP_ONLY, {"pool_id": pool.id, "abouts": list(abouts)})
