"""The compaction of `delegation_counts`, to which every change of a delegation adds a row."""

from sqlalchemy import text

from lastmile.db import Database

__all__ = ["compact_counts"]

PAGES = 1_000
"""Pages of one transaction, some 100 000 rows: a month of changes must not exceed the statement time-out."""

_PAGES = text("SELECT pg_relation_size('delegation_counts') / current_setting('block_size')::bigint")

# Two concurrent compactions would be correct: each inserts the sum of the rows that it deletes. But the second would
# wait for the first, and find nothing left to do.
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('lastmile/fold', 0))")

_COMPACT = text(
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


async def compact_counts(database: Database) -> None:
    """Replace the rows of each kind of delegation by a few rows with the same sum, in several transactions.

    Return at once if another process compacts the table.
    """
    async with database.platform() as connection:
        pages = await connection.scalar(_PAGES) or 0
    for first in range(0, pages, PAGES):
        async with database.platform() as connection:
            if not await connection.scalar(_TRY_LOCK):
                return
            await connection.execute(_COMPACT, {"first": f"({first},0)", "beyond": f"({first + PAGES},0)"})
