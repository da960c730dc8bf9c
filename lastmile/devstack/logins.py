"""The database logins of a stack: members of the group roles that the migrations make, owners of nothing."""

import asyncpg
from sqlalchemy import make_url

from lastmile.devstack.server import ServerFailedError

__all__ = ["make_login"]


async def make_login(owner_url: str, name: str, password: str, *groups: str) -> str:
    """See to it that the login `name` exists, with `password` and as a member of `groups`; return its URL.

    Raises:
        ServerFailed: the owner may not make logins.
    """
    url = make_url(owner_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
        verb = "ALTER" if known else "CREATE"
        # Names and password are the stack's own: nothing in them needs quoting.
        await connection.execute(f"{verb} ROLE {name} LOGIN PASSWORD '{password}'; GRANT {', '.join(groups)} TO {name}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServerFailedError(
            f"The owner of the database, {url.username}, may not make the login {name} that the embedded stack "
            f"needs ({error}). Give it CREATEROLE and the roles {', '.join(groups)} WITH ADMIN OPTION, or unset "
            "DATABASE_URL to let the stack run a PostgreSQL of its own."
        ) from None
    finally:
        await connection.close()
    return url.set(username=name, password=password).render_as_string(hide_password=False)
