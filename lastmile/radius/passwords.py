"""The passwords of RADIUS accounts."""

import secrets

from sqlalchemy import select, update

from lastmile.db import TenantConnection
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.logins import PASSWORD
from lastmile.radius.tables import is_account, is_managed, radcheck

__all__ = ["generate_password", "read_password", "replace_password"]


async def replace_password(
    connection: TenantConnection, tenant: str, subscriber_ref: str, password: str | None
) -> tuple[str, str]:
    """Give the line's account the password; without `password`, a generated one. Return the user name and the former.

    Raises:
        AccountConflictError: the line has no account with a password.
    """
    account = (radcheck.c.tenant_id == tenant, radcheck.c.subscriber_ref == subscriber_ref, is_account(), is_managed())
    found = (await connection.execute(select(radcheck).where(*account).with_for_update())).one_or_none()
    if found is None or found.attribute != PASSWORD:
        raise AccountConflictError(
            f"Subscriber {subscriber_ref} has no password to replace: "
            + ("the line is an IPoE line." if found else "the line has no RADIUS account.")
        )
    new = update(radcheck).where(radcheck.c.id == found.id).values(value=password or generate_password())
    await connection.execute(new)
    return found.username, found.value


def generate_password() -> str:
    """Return a new random password."""
    return secrets.token_urlsafe(18)


async def read_password(connection: TenantConnection, user: str) -> str | None:
    """Return the account's password in clear text, to configure the CPE; None if there is no account."""
    return await connection.scalar(
        select(radcheck.c.value).where(radcheck.c.username == user, radcheck.c.attribute == PASSWORD)
    )
