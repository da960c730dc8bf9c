"""The token of the embedded stack: made once, kept, and replaced where the API does not accept it any more."""

from pathlib import Path

from lastmile.db import Database
from lastmile.devstack.api_token import ensure_api_token
from lastmile.services.api_keys import (
    NewApiKey,
    PrincipalKind,
    create_api_key,
    find_api_key,
    list_api_keys,
    revoke_api_key,
)


async def test_token_is_shown_once_and_kept_for_its_user_alone(
    database: Database, owner_url: str, tmp_path: Path
) -> None:
    file, first = await ensure_api_token(tmp_path, owner_url)
    assert first is not None
    assert file.read_text() == first
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0
    assert await ensure_api_token(tmp_path, owner_url) == (file, None)
    key = await find_api_key(database, first)
    assert key is not None
    assert (key.tenant, key.kind) == (None, PrincipalKind.SYSTEM)


async def test_revoked_token_is_replaced(database: Database, owner_url: str, tmp_path: Path) -> None:
    _, first = await ensure_api_token(tmp_path, owner_url)
    (key,) = await list_api_keys(database)
    await revoke_api_key(database, key.id, actor="")
    file, second = await ensure_api_token(tmp_path, owner_url)
    assert second not in (None, first)
    assert file.read_text() == second


async def test_token_without_a_permission_is_replaced_and_revoked(
    database: Database, owner_url: str, tmp_path: Path
) -> None:
    file, _ = await ensure_api_token(tmp_path, owner_url)
    new = NewApiKey(name="of an older version", tenant=None, permissions=frozenset({"orders:read"}))
    older = await create_api_key(database, new, actor="")
    file.write_text(older.text)
    assert (await ensure_api_token(tmp_path, owner_url))[1] is not None
    assert await find_api_key(database, older.text) is None
