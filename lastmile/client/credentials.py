"""The credentials of lines, for a client that can use Lastmile's database."""

from lastmile.contract import AnyOrder
from lastmile.db.access import open_database
from lastmile.encryption.keys import KeyRing
from lastmile.services.credentials import Credentials, forget_password, read_credentials, store_password

__all__ = ["CredentialStore", "Credentials"]


class CredentialStore:
    """Lastmile's database and the encryption keys of its workers. Each call opens a connection."""

    def __init__(self, database_url: str, keys: KeyRing | None) -> None:
        self._url = database_url
        self._keys = keys

    async def store_password(self, order: AnyOrder) -> AnyOrder:
        """Store the password that the order gives, encrypted, and return the order with a reference in its place.

        Raises `InvalidInputError` without keys, `GivenPasswordError` where the order was sent with another password,
        and `UnavailableError`.
        """
        async with open_database(self._url, pool_size=1) as database:
            return await store_password(database, self._keys, order)

    async def forget_password(self, order: AnyOrder) -> None:
        """Delete the stored password of an order that was not started. Raises `UnavailableError`."""
        async with open_database(self._url, pool_size=1) as database:
            await forget_password(database, order)

    async def read(self, tenant: str, subscriber_ref: str, *, asked_by: str) -> Credentials:
        """Return the line's user name and password. The audit log records the read.

        Raises `UnknownSubscriberError` without an account, and `UnavailableError`.
        """
        async with open_database(self._url, pool_size=1) as database:
            return await read_credentials(database, tenant, subscriber_ref, asked_by=asked_by)
