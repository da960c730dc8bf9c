"""User names and passwords of lines: store the password that an order gives, and show the credentials of a line."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import text

from lastmile.contract.orders import AnyOrder
from lastmile.db import Database, TenantConnection
from lastmile.encryption.keys import KeyRing
from lastmile.errors import InvalidInputError
from lastmile.radius import given_passwords
from lastmile.radius.escaping import unescaped
from lastmile.subscribers.errors import UnknownSubscriberError
from lastmile.subscribers.orders import has_ended

__all__ = [
    "Account",
    "Credentials",
    "forget_password",
    "read_account",
    "read_credentials",
    "read_password",
    "store_password",
]


@dataclass(frozen=True, slots=True)
class Account:
    """The user name of a line, and its password, which an IPoE line lacks."""

    username: str
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the CPE of a line logs in with."""

    tenant: str
    subscriber_ref: str
    username: str
    password: str | None
    """None: the line is an IPoE line."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def store_password(database: Database, keys: KeyRing | None, order: AnyOrder) -> AnyOrder:
    """Store the password that the order gives, encrypted, and return the order with a reference in its place.

    Raises:
        InvalidInputError: there are no encryption keys.
        GivenPasswordError: the order was sent with another password.
    """
    password = getattr(order, "password", None)
    if password is None:
        return order
    if keys is None:
        raise InvalidInputError(
            f"Order {order.order_id} gives a password, and there is no key to store it encrypted. Set "
            "LASTMILE_ENCRYPTION_KEYS here and for every worker, or leave the password out: Lastmile generates one."
        )
    async with database.tenant(order.tenant, actor=order.requested_by) as connection:
        # No account takes the password of an order that has ended: the order returns its result.
        if not await has_ended(connection, order.order_id):
            await given_passwords.keep(connection, keys, order.tenant, order.order_id, password.get_secret_value())
    return order.model_copy(update={"password": None, "password_ref": order.order_id})


async def forget_password(database: Database, order: AnyOrder) -> None:
    """Delete the stored password of an order that was refused before its first step."""
    async with database.tenant(order.tenant, actor=order.requested_by) as connection:
        await given_passwords.forget(connection, order.order_id)


async def read_credentials(database: Database, tenant: str, subscriber_ref: str, *, asked_by: str) -> Credentials:
    """Return the line's user name and password. The audit log records the read.

    Raises:
        UnknownSubscriberError: the subscriber has no RADIUS account.
    """
    async with database.tenant(tenant, actor=asked_by, subscriber_ref=subscriber_ref) as connection:
        found = await read_account(connection, subscriber_ref)
    if found is None:
        raise UnknownSubscriberError(
            f"Subscriber {subscriber_ref} of tenant {tenant} has no RADIUS account. "
            f"`lastmile status {subscriber_ref}` shows what the subscriber has."
        )
    return Credentials(tenant, subscriber_ref, found.username, found.password)


async def read_password(connection: TenantConnection, subscriber_ref: str) -> str | None:
    """Return the line's password; None if it has none. The audit log records the transaction's actor."""
    found = await read_account(connection, subscriber_ref)
    return None if found is None else found.password


async def read_account(
    connection: TenantConnection, subscriber_ref: str, *, record_once_a_day: bool = False
) -> Account | None:
    """Return the line's user name and password; None without a RADIUS account.

    The audit log records the transaction's actor; with `record_once_a_day` only once a day.
    """
    statement = text("SELECT username, password FROM lastmile_read_credentials(:subscriber_ref, :record_once_a_day)")
    values = {"subscriber_ref": subscriber_ref, "record_once_a_day": record_once_a_day}
    row = (await connection.execute(statement, values)).one_or_none()
    return None if row is None else Account(unescaped(row.username), row.password)
