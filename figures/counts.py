"""The upkeep of `delegation_counts`: every change adds a row, and this makes few rows of many."""

from sqlalchemy import text

from db import Database

__all__ = ["fold"]

# Within a statement's time, also where nobody has folded for a month.
MOST = 100_000

# Two at once do no harm: each adds up what it deletes, and what it sees has the same sum before and after.
_FOLD = text(
    """
    WITH many AS (
        DELETE FROM delegation_counts USING (SELECT ctid FROM delegation_counts LIMIT :most) chunk
        WHERE delegation_counts.ctid = chunk.ctid
        RETURNING delegation_counts.*
    ), few AS (
        INSERT INTO delegation_counts
        SELECT tenant_id, pool_id, state, held, in_netbox, sum(number) FROM many
        GROUP BY tenant_id, pool_id, state, held, in_netbox HAVING sum(number) <> 0
        RETURNING number
    )
    SELECT (SELECT count(*) FROM many) - (SELECT count(*) FROM few)
    """
)


async def fold(database: Database) -> None:
    """Leave about one row for each kind of delegation that there is, in as many transactions as it takes."""
    fewer = MOST
    while fewer > MOST // 2:
        async with database.platform() as connection:
            fewer = await connection.scalar(_FOLD, {"most": MOST}) or 0
