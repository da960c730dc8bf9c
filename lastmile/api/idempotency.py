"""`Idempotency-Key`: a request that is sent again has its effect once (draft-ietf-httpapi-idempotency-key-header-07).

The answer is stored in the transaction of the effect: either both are committed, or neither is. A request that fails
stores nothing and can be sent again with its key. Orders do not need this: `order_id` identifies them for ever.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, SmallInteger, Table, Text, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.api.auth.principal import Principal
from lastmile.api.problems import ProblemError
from lastmile.db import metadata

__all__ = [
    "Answer",
    "IdempotencyKey",
    "KeyOfRequest",
    "answer_once",
    "idempotency_key",
    "idempotency_keys",
]

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id")),
    Column("digest", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("location", Text),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key of a request, and a hash of the request."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    body: bytes
    """JSON, without secrets: it is stored for a day."""
    location: str | None = None
    replayed: bool = False
    """The effect is that of an earlier request."""

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.location is None else {"Location": self.location}
        return headers | ({"Idempotent-Replay": "true"} if self.replayed else {})


async def idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[!-~]+$",
            description="Your key for this request. The same request again within 24 hours gets the stored answer.",
        ),
    ] = None,
) -> IdempotencyKey | None:
    """Return the key of the request: a dependency of FastAPI."""
    if key is None:
        return None
    digest = hashlib.sha256(f"{request.method}\0{request.url.path}\0{request.url.query}\0".encode())
    digest.update(await request.body())
    return IdempotencyKey(key, digest.digest())


KeyOfRequest = Annotated[IdempotencyKey | None, Depends(idempotency_key)]
"""The parameter of a route whose effect happens once for a key."""


async def answer_once(
    connection: AsyncConnection,
    principal: Principal,
    tenant: str | None,
    key: IdempotencyKey | None,
    effect: Callable[[], Awaitable[Answer]],
) -> Answer:
    """Return the stored answer; without one, the answer of `effect`, which must use this transaction.

    Raises:
        ProblemError: the key was used for another request, or a request with this key is still running.
    """
    if key is None:
        return await effect()
    key_id = hashlib.sha256("\0".join((tenant or "", principal.subject, key.key)).encode()).digest()
    # The lock ends with the transaction. It covers the time in which the row of another request is not committed yet.
    if not await connection.scalar(_LOCK, {"key": int.from_bytes(key_id[:8], signed=True)}):
        raise ProblemError(
            "conflict", f"A request with the Idempotency-Key {key.key} is still running. Send it again in a moment."
        )
    stored = select(idempotency_keys).where(idempotency_keys.c.id == key_id)
    if row := (await connection.execute(stored)).one_or_none():
        if row.digest != key.digest:
            raise ProblemError(
                "idempotency-key-reused",
                f"The Idempotency-Key {key.key} was used for another request. Use a new key for a new request.",
            )
        return Answer(row.status, row.body, row.location, replayed=True)
    answer = await effect()
    await connection.execute(
        insert(idempotency_keys).values(
            id=key_id,
            tenant_id=tenant,
            digest=key.digest,
            status=answer.status,
            location=answer.location,
            body=answer.body,
        )
    )
    return answer
