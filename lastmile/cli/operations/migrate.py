"""`lastmile migrate`."""

from lastmile.cli.connections import database_failures, load_settings
from lastmile.cli.exit_codes import Exit, UnavailableError
from lastmile.cli.output import tell
from lastmile.db.migrate import pending, upgrade

__all__ = ["migrate"]


async def migrate(*, as_json: bool) -> Exit:
    """Bring the database to the newest schema, as the login that owns its tables."""
    settings = load_settings()
    url = settings.database_owner_url or settings.database_url
    if url is None:
        raise UnavailableError(
            "There is no database to migrate: set DATABASE_OWNER_URL, or DATABASE_URL, to a login that may make "
            "tables and roles: postgresql://user:password@host:port/name. (`lastmile up` migrates its own.)"
        )
    async with database_failures(str(url)):
        missing = await pending(str(url))
        await upgrade(str(url))
    done = f"Migrated: {', '.join(missing)}." if missing else "The database is at the newest schema already."
    tell(done, as_json, migrated=missing)
    return Exit.DONE
