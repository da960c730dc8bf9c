"""`lastmile api-key`."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import ValidationError

from lastmile.api.auth.permissions import Permission
from lastmile.cli.connections import check_tenant, choose_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_all, print_result
from lastmile.cli.times import zoned_time
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services.api_keys import (
    ApiKey,
    NewApiKey,
    PrincipalKind,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from lastmile.validation_messages import mistakes, suggest_name

__all__ = ["api_key_add", "api_key_list", "api_key_revoke"]


async def api_key_add(
    name: str,
    *,
    permissions: Sequence[str],
    tenant: str | None,
    all_tenants: bool,
    system: bool,
    expires: str | None,
    as_json: bool,
) -> Exit:
    """Create a key, and print it this one time."""
    if all_tenants and tenant is not None:
        raise InvalidInputError("--tenant and --all-tenants exclude each other.")
    async with open_database(load_settings()) as database:
        of_tenant = None if all_tenants else await choose_tenant(database, tenant)
        new = _validate(name, of_tenant, permissions, system, expires)
        created = await create_api_key(database, new, actor=current_user())
    print_result(
        f"API key {created.api_key.id} ({name}) for {of_tenant or 'all tenants'} created. Store it now, since it "
        f"cannot be shown again:\n{created.text}",
        as_json,
        key=created.text,
        **_facts(created.api_key),
    )
    return Exit.DONE


def _validate(
    name: str, tenant: str | None, permissions: Sequence[str], system: bool, expires: str | None
) -> NewApiKey:
    for permission in permissions:
        if permission not in set(Permission):
            raise InvalidInputError(
                f"--permission: There is no permission {permission!r}. The permissions are: "
                f"{', '.join(Permission)}. {suggest_name(permission, map(str, Permission))}".rstrip()
            )
    try:
        return NewApiKey(
            name=name,
            tenant=tenant,
            permissions=frozenset(permissions),
            kind=PrincipalKind.SYSTEM if system else PrincipalKind.PERSON,
            expires_at=None if expires is None else zoned_time("--expires", expires),
        )
    except ValidationError as failure:
        problems = mistakes(failure, NewApiKey, {"name": "NAME", "expires_at": "--expires"})
        raise InvalidInputError("Invalid API key:", problems) from None


async def api_key_list(tenant: str | None, as_json: bool) -> Exit:
    """List all keys."""
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        keys = await list_api_keys(database, tenant)
    print_all(
        [_facts(key) for key in keys],
        as_json,
        ("key", "name", "tenant", "kind", "state", "expires", "last used", "permissions"),
        [
            (
                f"lm_{key.id}_…",
                key.name,
                key.tenant or "all tenants",
                key.kind,
                _state(key),
                format_time(key.expires_at),
                format_time(key.last_used_at),
                list(key.permissions),
            )
            for key in keys
        ],
        "There are no API keys yet. Add one: lastmile api-key add NAME --permission orders:write",
        spare=("permissions", "last used"),
    )
    return Exit.DONE


async def api_key_revoke(key_id: str, as_json: bool) -> Exit:
    """Revoke a key. Raises `UnknownApiKeyError`."""
    async with open_database(load_settings()) as database:
        key, revoked = await revoke_api_key(database, key_id, actor=current_user())
    words = "revoked. The API refuses it after at most 60 seconds." if revoked else "was revoked before, unchanged."
    print_result(f"API key {key.id} ({key.name}) {words}", as_json, **_facts(key))
    return Exit.DONE


def _facts(key: ApiKey) -> dict[str, object]:
    return asdict(key) | {"state": _state(key)}


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "active"
