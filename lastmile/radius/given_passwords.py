"""The passwords that orders give, encrypted, from the order's start until its account has them.

An order carries a reference, its own id: a password in clear text would stay in Temporal's history.
"""

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection
from lastmile.encryption.keys import KeyRing
from lastmile.radius.errors import GivenPasswordError
from lastmile.radius.tables import given_passwords

__all__ = ["forget", "keep", "take"]


async def keep(connection: TenantConnection, keys: KeyRing, tenant: str, order_id: str, password: str) -> None:
    """Store the password for the order.

    Raises:
        GivenPasswordError: the order was sent with another password.
        DecryptionError: the order was sent before, and the key of its password is missing.
    """
    name, sealed = keys.encrypt(password.encode())
    row = {"tenant_id": tenant, "order_id": order_id, "key_name": name, "sealed": sealed}
    await connection.execute(insert(given_passwords).values(row).on_conflict_do_nothing())
    if await _read(connection, keys, order_id) != password:
        raise GivenPasswordError(f"Order {order_id} was sent with another password. Send each order with its own id.")


async def take(connection: TenantConnection, keys: KeyRing | None, order_id: str) -> str | None:
    """Return the password of the order, and forget it. None: an earlier attempt of the step has used it.

    Raises:
        GivenPasswordError: this program has no encryption keys.
        DecryptionError: the key of the password is missing.
    """
    if keys is None:
        raise GivenPasswordError(
            f"Order {order_id} gives a password, and this worker cannot decrypt it. "
            "Set LASTMILE_ENCRYPTION_KEYS for every worker, as for the program that sends the orders."
        )
    password = await _read(connection, keys, order_id)
    await forget(connection, order_id)
    return password


async def forget(connection: TenantConnection, order_id: str) -> None:
    """Delete the password of an order that was refused before its first step. Sent again, the order stores it again."""
    await connection.execute(delete(given_passwords).where(given_passwords.c.order_id == order_id))


async def _read(connection: TenantConnection, keys: KeyRing, order_id: str) -> str | None:
    stored = select(given_passwords.c.key_name, given_passwords.c.sealed).where(given_passwords.c.order_id == order_id)
    row = (await connection.execute(stored)).one_or_none()
    return None if row is None else keys.decrypt(row.key_name, row.sealed).decode()
