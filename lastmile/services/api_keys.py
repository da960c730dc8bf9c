"""API keys: create, list, revoke and find them.

A key is `lm_<id>_<secret>`. The database has only the hash of the key.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    Row,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from lastmile.db import Database, metadata
from lastmile.errors import NonRetryableError
from lastmile.fields.rules import rule_error
from lastmile.fields.scalars import Moment
from lastmile.fields.text import PRINTABLE

__all__ = [
    "ApiKey",
    "CreatedKey",
    "NewApiKey",
    "PrincipalKind",
    "UnknownApiKeyError",
    "api_keys",
    "create_api_key",
    "find_api_key",
    "list_api_keys",
    "looks_like_a_key",
    "revoke_api_key",
]

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id")),
    Column("name", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
)

_PREFIX = "lm_"
_KEY = re.compile(rf"{_PREFIX}([0-9a-f]{{12}})_[0-9a-f]{{64}}")
_A_MINUTE_AGO = func.now() - text("interval '1 minute'")


class UnknownApiKeyError(NonRetryableError):
    """There is no API key of this id."""


class PrincipalKind(StrEnum):
    """The kinds of callers, which have different rate limits."""

    PERSON = "person"
    SYSTEM = "system"
    """A program that sends orders, such as a CRM."""


class NewApiKey(BaseModel):
    """An API key to create."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=100), PRINTABLE]
    tenant: str | None
    """None: the key is for all tenants."""
    permissions: Annotated[frozenset[str], Field(min_length=1)]
    kind: PrincipalKind = PrincipalKind.PERSON
    expires_at: Moment | None = None

    @field_validator("expires_at")
    @classmethod
    def _expires_later(cls, time: datetime | None) -> datetime | None:
        if time is not None and time <= datetime.now(time.tzinfo):
            raise rule_error("must be a time in the future")
        return time


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret."""

    id: str
    tenant: str | None
    name: str
    permissions: tuple[str, ...]
    kind: PrincipalKind
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new API key with its text, which is shown once."""

    api_key: ApiKey
    text: str = field(repr=False)


def looks_like_a_key(bearer: str) -> bool:
    """Return whether the bearer token is meant as an API key and not as a JSON Web Token."""
    return bearer.startswith(_PREFIX)


async def create_api_key(database: Database, new: NewApiKey, *, actor: str) -> CreatedKey:
    """Create an API key. The audit log names the `actor`."""
    key_id = secrets.token_hex(6)
    written = f"{_PREFIX}{key_id}_{secrets.token_hex(32)}"
    values = {
        "id": key_id,
        "tenant_id": new.tenant,
        "name": new.name,
        "key_sha256": _hash(written),
        "permissions": sorted(new.permissions),
        "kind": new.kind.value,
        "expires_at": new.expires_at,
    }
    async with database.platform(actor=actor) as connection:
        row = (await connection.execute(insert(api_keys).values(values).returning(api_keys))).one()
    return CreatedKey(_api_key(row), written)


async def list_api_keys(database: Database, tenant: str | None = None) -> list[ApiKey]:
    """Return the API keys, oldest first, revoked ones too; with `tenant` only those of this tenant."""
    query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    if tenant is not None:
        query = query.where(api_keys.c.tenant_id == tenant)
    async with database.platform() as connection:
        return [_api_key(row) for row in await connection.execute(query)]


async def revoke_api_key(database: Database, key_id: str, *, actor: str) -> tuple[ApiKey, bool]:
    """Revoke an API key, and return it and whether it was not revoked before.

    Processes of the API remember a key for up to 60 seconds, so that the last of them refuses the key after that time.

    Raises:
        UnknownApiKeyError: no key has this id.
    """
    this = api_keys.c.id == key_id
    revoke = update(api_keys).where(this, api_keys.c.revoked_at.is_(None)).values(revoked_at=func.now())
    async with database.platform(actor=actor) as connection:
        if row := (await connection.execute(revoke.returning(api_keys))).one_or_none():
            return _api_key(row), True
        if row := (await connection.execute(select(api_keys).where(this))).one_or_none():
            return _api_key(row), False
    raise UnknownApiKeyError(f"There is no API key {key_id}: `lastmile api-key list` lists all API keys.")


async def find_api_key(database: Database, written: str) -> ApiKey | None:
    """Return the valid API key with this text, and record its use; None for a wrong, expired or revoked key."""
    if not (match := _KEY.fullmatch(written)):
        return None
    valid = (
        api_keys.c.id == match[1],
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
    )
    async with database.platform() as connection:
        row = (await connection.execute(select(api_keys).where(*valid))).one_or_none()
        if row is None or not hmac.compare_digest(row.key_sha256, _hash(written)):
            return None
        # A write for each request would be the most frequent write of all.
        unrecorded = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < _A_MINUTE_AGO)
        used = update(api_keys).where(api_keys.c.id == row.id, unrecorded).values(last_used_at=func.now())
        await connection.execute(used)
    return _api_key(row)


def _hash(written: str) -> bytes:
    return hashlib.sha256(written.encode()).digest()


def _api_key(row: Row[Any]) -> ApiKey:
    values = dict(row._mapping)
    del values["key_sha256"]
    values |= {"permissions": tuple(values["permissions"]), "kind": PrincipalKind(values["kind"])}
    return ApiKey(tenant=values.pop("tenant_id"), **values)
