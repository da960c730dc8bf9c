"""`lastmile migrate`."""

from lastmile.cli.connections import load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_result
from lastmile.db.access import database_failures
from lastmile.db.migrate import pending, upgrade
from lastmile.errors import UnavailableError

__all__ = ["migrate"]


async def migrate(*, as_json: bool) -> Exit:
    """Update the database schema, as the login that owns the tables."""
    settings = load_settings()
    url = settings.database_owner_url or settings.database_url
    if url is None:
        raise UnavailableError(
            "No database is configured: set DATABASE_OWNER_URL, or DATABASE_URL, to a login that may create "
            "tables and roles: postgresql://user:password@host:port/name. (`lastmile up` migrates its own.)"
        )
    async with database_failures(str(url)):
        missing = await pending(str(url))
        await upgrade(str(url))
    done = f"Migrated: {', '.join(missing)}." if missing else "The database is at the newest schema already."
    print_result(done, as_json, migrated=missing)
    return Exit.DONE
