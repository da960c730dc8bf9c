"""The gate of an API process: it knows the callers, and counts their requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lastmile.api.auth.authenticator import Authenticator
from lastmile.api.auth.key_sets import IssuerKeys, StaticKeys
from lastmile.api.auth.tokens import TokenVerifier
from lastmile.api.rate_limits import RateLimiter
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings

__all__ = ["Gate", "check_key_file", "open_gate"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What the requirements of routes ask."""

    authenticator: Authenticator
    limiter: RateLimiter


def check_key_file(settings: Settings) -> list[str]:
    """Return the problem of the file of keys, if it cannot be used."""
    if settings.api_jwks_file is not None:
        try:
            StaticKeys(settings.api_jwks_file)
        except InvalidInputError as failure:
            return [str(failure)]
    return []


@asynccontextmanager
async def open_gate(settings: Settings, database: Database) -> AsyncIterator[Gate]:
    """Open the gate as the settings say. Raises `InvalidInputError` for a file of keys that cannot be used."""
    issuer, audience = settings.api_oidc_issuer, settings.api_audience
    tokens, fetched = None, None
    if audience is not None and settings.api_jwks_file is not None:
        tokens = TokenVerifier(StaticKeys(settings.api_jwks_file), audience=audience, issuer=issuer)
    elif audience is not None and issuer is not None:
        fetched = IssuerKeys(issuer)
        tokens = TokenVerifier(fetched, audience=audience, issuer=issuer)
    try:
        yield Gate(Authenticator(database, tokens), RateLimiter(database))
    finally:
        if fetched is not None:
            await fetched.close()
