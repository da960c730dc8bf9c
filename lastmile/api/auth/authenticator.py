"""From the bearer token of a request to its principal."""

import hashlib
import time
from collections.abc import Callable

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import API_KEY_SUBJECT, Principal
from lastmile.api.auth.tokens import LEEWAY_SECONDS, InvalidTokenError, TokenVerifier
from lastmile.api.remembered import Remembered
from lastmile.db import Database
from lastmile.services.api_keys import find_api_key, looks_like_a_key

__all__ = ["REMEMBERED_SECONDS", "Authenticator"]

REMEMBERED_SECONDS = 60
"""A process accepts a verified key or token for this long without another look: also one that is revoked meanwhile."""


class Authenticator:
    """Finds the principals of API keys and of JSON Web Tokens."""

    def __init__(
        self,
        database: Database,
        tokens: TokenVerifier | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Accept API keys, and with `tokens` also JSON Web Tokens."""
        self._database = database
        self._tokens = tokens
        self._now = now
        self._remembered: Remembered[Principal] = Remembered(clock)

    async def authenticate(self, bearer: str) -> Principal:
        """Return the caller with this bearer token.

        Raises:
            InvalidTokenError: the key or token is not valid, or not any more.
            UnavailableError: the keys of the token issuer cannot be fetched.
        """
        # The memory holds no token that could be used.
        digest = hashlib.sha256(bearer.encode(errors="replace")).digest()
        if known := self._remembered.get(digest):
            return known
        is_key = looks_like_a_key(bearer)
        principal = await (self._by_key(bearer) if is_key else self._by_token(bearer))
        seconds: float = REMEMBERED_SECONDS
        if principal.expires is not None:
            leeway = 0 if is_key else LEEWAY_SECONDS
            seconds = min(seconds, principal.expires.timestamp() + leeway - self._now())
        self._remembered.put(digest, principal, seconds)
        return principal

    async def _by_key(self, bearer: str) -> Principal:
        if (key := await find_api_key(self._database, bearer)) is None:
            raise InvalidTokenError("The API key is unknown, expired or revoked.")
        return Principal(
            subject=f"{API_KEY_SUBJECT}{key.id}",
            tenant=key.tenant,
            permissions=frozenset(permission for permission in Permission if permission in key.permissions),
            kind=key.kind,
            expires=key.expires_at,
        )

    async def _by_token(self, bearer: str) -> Principal:
        if self._tokens is None:
            raise InvalidTokenError("This API accepts only API keys, which begin with lm_.")
        return await self._tokens.verify(bearer)
