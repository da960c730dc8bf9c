"""The API key of a stack, which its user needs for a first request to the REST API."""

from pathlib import Path

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from lastmile.devstack.secret import secret_file, write_private
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key, find_api_key, revoke_api_key

__all__ = ["ensure_api_token"]

_NAME = "api-token"


async def ensure_api_token(directory: Path, database_url: str) -> tuple[Path, str | None]:
    """Return the file of the API key of the stack in `directory`, and the key's text if the key is new.

    The key is for all tenants and has every permission. A key that was revoked, or lacks a permission that this version
    of Lastmile has, is replaced.
    """
    file = secret_file(directory, _NAME)
    database = Database(database_url, pool_size=1)
    try:
        known = await find_api_key(database, file.read_text()) if file.exists() else None
        if known is not None and set(known.permissions) == set(Permission):
            return file, None
        new = NewApiKey(
            name="embedded stack", tenant=None, permissions=frozenset(Permission), kind=PrincipalKind.SYSTEM
        )
        created = await create_api_key(database, new, actor="stack")
        if known is not None:
            await revoke_api_key(database, known.id, actor="stack")
    finally:
        await database.close()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, created.text)
    return file, created.text
