"""API keys: stored as a hash, bound to a tenant, refused when they are wrong, expired or revoked."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import ValidationError

from lastmile.db import Database
from lastmile.services.api_keys import (
    CreatedKey,
    NewApiKey,
    PrincipalKind,
    UnknownApiKeyError,
    create_api_key,
    find_api_key,
    list_api_keys,
    revoke_api_key,
)


async def created(database: Database, **values: object) -> CreatedKey:
    given = {"name": "crm", "tenant": "acme", "permissions": {"orders:write", "orders:read"}} | values
    return await create_api_key(database, NewApiKey.model_validate(given), actor="admin")


async def test_api_key_is_found_by_its_text_alone(database: Database) -> None:
    key = await created(database, kind=PrincipalKind.SYSTEM)
    found = await find_api_key(database, key.text)
    assert found is not None
    assert (found.id, found.tenant, found.kind) == (key.api_key.id, "acme", PrincipalKind.SYSTEM)
    assert found.permissions == ("orders:read", "orders:write")
    last = "1" if key.text[-1] == "0" else "0"
    for wrong in (key.text[:-1] + last, key.text[:-1], f"{key.text}0", f"lm_{'0' * 12}_{'0' * 64}", "lm_", ""):
        assert await find_api_key(database, wrong) is None, wrong


async def test_api_key_is_stored_as_a_hash_alone(database: Database, owner: asyncpg.Connection) -> None:
    key = await created(database)
    secret = key.text.rpartition("_")[2]
    assert secret not in repr(key)
    for table in ("api_keys", "audit_log"):
        written = await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t")
        assert key.api_key.id in written
        assert secret not in written
    stored = await owner.fetchval("SELECT key_sha256 FROM api_keys")
    assert stored.hex() not in await owner.fetchval("SELECT string_agg(t::text, ' ') FROM audit_log t")


async def test_revoked_and_expired_api_keys_are_not_found(database: Database, owner: asyncpg.Connection) -> None:
    key = await created(database, expires_at=datetime.now(UTC) + timedelta(days=1))
    assert await find_api_key(database, key.text)
    await owner.execute("UPDATE api_keys SET expires_at = now()")
    assert await find_api_key(database, key.text) is None

    key = await created(database)
    _, first = await revoke_api_key(database, key.api_key.id, actor="admin")
    revoked, again = await revoke_api_key(database, key.api_key.id, actor="admin")
    assert (first, again, revoked.revoked_at is not None) == (True, False, True)
    assert await find_api_key(database, key.text) is None
    with pytest.raises(UnknownApiKeyError, match="There is no API key abc: `lastmile api-key list`"):
        await revoke_api_key(database, "abc", actor="admin")


async def test_use_of_an_api_key_is_recorded_once_a_minute(database: Database, owner: asyncpg.Connection) -> None:
    key = await created(database)
    await find_api_key(database, key.text)
    used = await owner.fetchval("SELECT last_used_at FROM api_keys")
    assert used is not None
    await find_api_key(database, key.text)
    assert await owner.fetchval("SELECT last_used_at FROM api_keys") == used
    await owner.execute("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
    await find_api_key(database, key.text)
    assert await owner.fetchval("SELECT last_used_at FROM api_keys") > used
    entries = await owner.fetch("SELECT actor, action, key FROM audit_log WHERE record = 'api_keys'")
    assert [tuple(entry) for entry in entries] == [("admin", "created", key.api_key.id)]


async def test_list_of_api_keys_of_a_tenant_omits_those_of_others(database: Database) -> None:
    keys = [await created(database, tenant=tenant) for tenant in ("acme", "other", None)]
    assert [key.id for key in await list_api_keys(database)] == [key.api_key.id for key in keys]
    assert [key.tenant for key in await list_api_keys(database, "other")] == ["other"]


def test_new_api_key_that_has_expired_already_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be a time in the future"):
        NewApiKey(
            name="crm", tenant=None, permissions=frozenset({"orders:read"}), expires_at=datetime(2020, 1, 1, tzinfo=UTC)
        )
