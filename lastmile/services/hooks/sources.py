"""The sources of webhooks: each has a tenant, a mapping and a secret. `lastmile hooks` manages them."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, Row, Table, Text, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from lastmile.contract.lines import TenantId
from lastmile.db import Database, metadata
from lastmile.encryption.keys import KeyRing
from lastmile.errors import NonRetryableError
from lastmile.services.hooks.registry import MAPPINGS
from lastmile.services.hooks.verification import HookRequest
from lastmile.services.sealed_bodies import seal, unseal
from lastmile.subscribers.accepted_orders import SealedBody

__all__ = [
    "HookSource",
    "HookSourceExistsError",
    "NewHookSource",
    "StoredSource",
    "UnknownHookSourceError",
    "add_source",
    "find_source",
    "hook_sources",
    "list_sources",
    "remove_source",
]

hook_sources = Table(
    "hook_sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mapping", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("key_name", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class UnknownHookSourceError(NonRetryableError):
    """There is no source of this name."""


class HookSourceExistsError(NonRetryableError):
    """Another source has the name."""


class NewHookSource(BaseModel):
    """A source to add."""

    # The name and an event's id of 36 characters make an order id.
    source: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]
    tenant: TenantId
    mapping: str
    secret: Annotated[str, Field(strict=True, pattern=r"^[!-~]{16,200}$")] | None = None
    """The secret that the CRM has made. None: Lastmile makes one."""


@dataclass(frozen=True, slots=True)
class HookSource:
    """A source without its secret."""

    name: str
    tenant: str
    mapping: str
    created_at: datetime = field(compare=False)

    @property
    def actor(self) -> str:
        """The name of the source in the audit log."""
        return f"hook/{self.name}"


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source with what is stored of its secret."""

    source: HookSource
    secret: bytes = field(repr=False)

    def verify(self, request: HookRequest) -> bool:
        """Return whether the request comes from the source. Nothing does from a source whose mapping is gone."""
        mapping = MAPPINGS.get(self.source.mapping)
        return mapping is not None and mapping.verification.verify(self.secret, request)


async def add_source(
    database: Database, new: NewHookSource, keys: KeyRing | None, *, actor: str
) -> tuple[HookSource, str]:
    """Add a source. Return it with its secret, which is shown once.

    Raises:
        HookSourceExistsError: a source has the name.
    """
    secret = new.secret or secrets.token_hex(32)
    verification = MAPPINGS[new.mapping].verification
    stored = seal(verification.at_rest(secret), keys if verification.readable else None)
    values = {
        "name": new.source,
        "tenant_id": new.tenant,
        "mapping": new.mapping,
        "secret": stored.content,
        "key_name": stored.key_name,
    }
    try:
        async with database.platform(actor=actor) as connection:
            row = (await connection.execute(insert(hook_sources).values(values).returning(hook_sources))).one()
    except IntegrityError:
        raise HookSourceExistsError(
            f"There is a hook source {new.source} already. Choose another name, or remove it first: "
            f"`lastmile hooks remove {new.source}`."
        ) from None
    return _source(row), secret


async def list_sources(database: Database) -> list[HookSource]:
    """Return all sources by name."""
    async with database.platform() as connection:
        return [_source(row) for row in await connection.execute(select(hook_sources).order_by(hook_sources.c.name))]


async def remove_source(database: Database, name: str, *, actor: str) -> HookSource:
    """Remove a source. Its events stay.

    Raises:
        UnknownHookSourceError: there is no such source.
    """
    gone = delete(hook_sources).where(hook_sources.c.name == name).returning(hook_sources)
    async with database.platform(actor=actor) as connection:
        if (row := (await connection.execute(gone)).one_or_none()) is None:
            raise UnknownHookSourceError(f"There is no hook source {name}: `lastmile hooks sources` lists all sources.")
        return _source(row)


async def find_source(database: Database, name: str, keys: KeyRing | None) -> StoredSource | None:
    """Return the source with what is stored of its secret; None where there is no such source.

    Raises:
        DecryptionError: this process lacks the key that encrypts the secret.
    """
    async with database.platform() as connection:
        row = (await connection.execute(select(hook_sources).where(hook_sources.c.name == name))).one_or_none()
    if row is None:
        return None
    return StoredSource(
        _source(row), unseal(SealedBody(row.secret, row.key_name), keys, f"The secret of hook source {name}")
    )


def _source(row: Row[Any]) -> HookSource:
    return HookSource(row.name, row.tenant_id, row.mapping, row.created_at)
