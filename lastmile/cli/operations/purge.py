"""`lastmile purge`: delete history that is older than the audit period."""

from lastmile.audit.retention import purge_all
from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import tell

__all__ = ["purge"]


async def purge(*, as_json: bool) -> Exit:
    """Delete entries of the audit log, and events of ended delegations, that are older than the setting says."""
    settings = load_settings()
    entries = events = 0
    async with open_database(settings) as database:
        # An interrupt loses the last batch only.
        async for purged in purge_all(database, settings.audit_period, actor=actor()):
            entries += purged.entries
            events += purged.events
    tell(
        f"Purged what is older than {settings.audit_days} days (LASTMILE_AUDIT_DAYS): {entries:,} entries of the "
        f"audit log, {events:,} events of delegations that have ended.",
        as_json,
        audit_days=settings.audit_days,
        audit_log_entries=entries,
        delegation_events=events,
    )
    return Exit.DONE
