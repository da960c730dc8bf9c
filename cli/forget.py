"""`lastmile forget`: the end of what has been kept for long enough."""

from audit.retention import forget_all
from cli.actor import actor
from cli.exits import Exit
from cli.output import tell
from cli.services import load_settings, open_database

__all__ = ["forget"]


async def forget(*, as_json: bool) -> Exit:
    """Delete the trail and the events of ended delegations that are older than the setting says."""
    settings = load_settings()
    entries = events = 0
    async with open_database(settings) as database:
        # An interrupt loses the last batch only.
        async for gone in forget_all(database, settings.audit_period, actor=actor()):
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
