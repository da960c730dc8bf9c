"""`lastmile purge`."""

from lastmile.audit.retention import purge_all
from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_result

__all__ = ["purge"]


async def purge(*, as_json: bool) -> Exit:
    """Delete entries of the audit log, and events of ended delegations, older than LASTMILE_AUDIT_DAYS."""
    settings = load_settings()
    entries = events = 0
    async with open_database(settings) as database:
        # An interrupt loses the last batch only.
        async for purged in purge_all(database, settings.audit_period, actor=current_user()):
            entries += purged.entries
            events += purged.events
    print_result(
        f"Purged what is older than {settings.audit_days} days (LASTMILE_AUDIT_DAYS): {entries:,} entries of the "
        f"audit log, {events:,} events of delegations that have ended.",
        as_json,
        audit_days=settings.audit_days,
        audit_log_entries=entries,
        delegation_events=events,
    )
    return Exit.DONE
