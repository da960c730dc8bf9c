"""`lastmile forget`: the end of what has been kept for long enough."""

from audit.retention import forget as forget_batch
from cli.actor import actor
from cli.exits import Exit
from cli.output import tell
from cli.services import load_settings, open_database

__all__ = ["forget"]

BATCH = 5_000
"""So that each transaction ends within a statement's time-out; an interrupt loses the last of them only."""


async def forget(*, as_json: bool) -> Exit:
    """Delete the trail and the events of ended delegations that are older than the setting says."""
    settings = load_settings()
    entries = events = 0
    async with open_database(settings) as database:
        while True:
            async with database.platform(actor=actor()) as connection:
                gone = await forget_batch(connection, settings.audit_period, batch=BATCH)
            if not (gone.entries or gone.events):
                break
            entries += gone.entries
            events += gone.events
    tell(
        f"Deleted what is older than {settings.audit_days} days (LASTMILE_AUDIT_DAYS): {entries:,} entries of the "
        f"trail, {events:,} events of delegations that have ended.",
        as_json,
        audit_days=settings.audit_days,
        trail_entries=entries,
        delegation_events=events,
    )
    return Exit.DONE
