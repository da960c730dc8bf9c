"""The upkeep of `delegation_counts`: every change adds a row, and this makes few rows of many."""

from sqlalchemy import text

from lastmile.db import Database

__all__ = ["fold"]

# Some 100 000 rows: within a statement's time, also where nobody has folded for a month.
PAGES = 1_000

_PAGES = text("SELECT pg_relation_size('delegation_counts') / current_setting('block_size')::bigint")

# Two at once would do no harm: each adds up what it deletes, and what anybody sees has the same sum before and after.
# But the second would wait for the first, to find nothing left to do.
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('lastmile/fold', 0))")

_FOLD = text(
    """
    WITH many AS (
        DELETE FROM delegation_counts
        WHERE ctid >= CAST(CAST(:first AS text) AS tid) AND ctid < CAST(CAST(:beyond AS text) AS tid)
        RETURNING *
    )
    INSERT INTO delegation_counts
    SELECT tenant_id, pool_id, state, held, in_netbox, sum(number) FROM many
    GROUP BY tenant_id, pool_id, state, held, in_netbox HAVING sum(number) <> 0
    """
)


async def fold(database: Database) -> None:
    """Leave few rows for each kind of delegation that there is, in as many transactions as it takes.

    Nothing happens where somebody else is at it.
    """
    async with database.platform() as connection:
        pages = await connection.scalar(_PAGES) or 0
    for first in range(0, pages, PAGES):
        async with database.platform() as connection:
            if not await connection.scalar(_TURN):
                return
            await connection.execute(_FOLD, {"first": f"({first},0)", "beyond": f"({first + PAGES},0)"})
