"""The database logins of a stack. Each is a member of group roles that the migrations create, and owns no table."""

import asyncpg
from sqlalchemy import make_url

from lastmile.devstack.server import ServerFailedError

__all__ = ["make_login"]


async def make_login(owner_url: str, name: str, password: str, *groups: str) -> str:
    """Create the login `name` with `password` as a member of `groups`, or update it. Return its URL.

    Raises:
        ServerFailedError: the owner may not create logins.
    """
    url = make_url(owner_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
        verb = "ALTER" if known else "CREATE"
        # The stack generates the names and the password without characters that need quotes.
        await connection.execute(f"{verb} ROLE {name} LOGIN PASSWORD '{password}'; GRANT {', '.join(groups)} TO {name}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServerFailedError(
            f"The owner of the database, {url.username}, may not create the login {name} for the embedded stack "
            f"({error}). Grant the owner CREATEROLE and the roles {', '.join(groups)} WITH ADMIN OPTION, or unset "
            "DATABASE_URL, so that the stack runs its own PostgreSQL."
        ) from None
    finally:
        await connection.close()
    return url.set(username=name, password=password).render_as_string(hide_password=False)
