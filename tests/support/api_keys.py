"""API keys for the requests of tests."""

from collections.abc import Iterable

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from lastmile.services.api_keys import CreatedKey, NewApiKey, PrincipalKind, create_api_key

__all__ = ["authorization", "make_api_key"]


async def make_api_key(
    database: Database,
    permissions: Iterable[str] = Permission,
    *,
    tenant: str | None = "acme",
    kind: PrincipalKind = PrincipalKind.SYSTEM,
) -> CreatedKey:
    """Create an API key with the permissions, all of them by default."""
    new = NewApiKey(name="test", tenant=tenant, permissions=frozenset(permissions), kind=kind)
    return await create_api_key(database, new, actor="")


def authorization(key: CreatedKey) -> dict[str, str]:
    """Return the header of a request with the key."""
    return {"Authorization": f"Bearer {key.text}"}
