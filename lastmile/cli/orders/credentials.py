"""`lastmile credentials`: the user name and the password of a line."""

from lastmile.cli.connections import choose_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, print_json
from lastmile.services.credentials import read_credentials

__all__ = ["credentials"]


async def credentials(subscriber: str, *, tenant: str | None, as_json: bool) -> Exit:
    """Print the credentials. Raises `UnknownSubscriberError`."""
    async with open_database(load_settings()) as database:
        tenant = await choose_tenant(database, tenant)
        found = await read_credentials(database, tenant, subscriber, asked_by=current_user())
    if as_json:
        print_json(found.as_json())
    else:
        password = found.password or "none: an IPoE line"
        console.print(make_table("", ("user name", "password"), [(found.username, password)]))
    return Exit.DONE
