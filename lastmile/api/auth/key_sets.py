"""The public keys that verify tokens: from a file, or from the token issuer (OpenID Connect Discovery 1.0)."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from lastmile.errors import InvalidInputError, UnavailableError

__all__ = ["IssuerKeys", "KeySource", "StaticKeys"]

KEPT_SECONDS = 600
"""The keys are fetched again after this time: a key that the issuer withdraws is refused from then on."""
REFETCH_SECONDS = 30
"""The shortest time between two requests, so that tokens with invented key ids cannot flood the issuer."""
FIRST_RETRY_SECONDS = 5
"""The same while there are no keys yet, and every token is refused."""
TIMEOUT_SECONDS = 5

_KEY_TYPES = ("RSA", "EC", "OKP")
"""No symmetric keys ("oct"): a party that verifies with such a key could also sign."""

log = structlog.get_logger("lastmile.api.keys")


class KeySource(Protocol):
    """Where the keys come from."""

    async def keys(self, *, unknown_key: bool = False) -> KeySet:
        """Return the keys. `unknown_key`: a token names a key that the last answer did not contain.

        Raises:
            UnavailableError: there are no keys, since the issuer does not answer.
        """


class StaticKeys:
    """The keys of a file, read once."""

    def __init__(self, file: Path) -> None:
        """Read the file. Raises `InvalidInputError`."""
        try:
            self._keys = _key_set(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InvalidInputError(
                f"LASTMILE_API_JWKS_FILE: {file} is not a JSON Web Key Set (RFC 7517) with a public RSA, EC or OKP key."
            ) from None

    async def keys(self, *, unknown_key: bool = False) -> KeySet:
        return self._keys


class IssuerKeys:
    """The keys of an OpenID Connect issuer, fetched when they are first needed.

    Concurrent callers share one request. While the issuer does not answer, the last keys stay valid.
    """

    def __init__(self, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: KeySet | None = None
        self._problem: str | None = None
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self, *, unknown_key: bool = False) -> KeySet:
        if self._is_due(unknown_key) and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._fetch())
        # A request uses keys that are a little old while new ones are fetched.
        if self._keys is None or unknown_key:
            await self.fetched()
        if self._keys is None:
            raise UnavailableError(
                f"Tokens cannot be verified now: the token issuer {self._issuer} {self._problem}. "
                "Try again in a moment."
            )
        return self._keys

    async def fetched(self) -> None:
        """Wait for the end of the request that is under way."""
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # a caller that is cut off ends no other caller's request

    async def close(self) -> None:
        """Cancel the request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _is_due(self, unknown_key: bool) -> bool:
        since = self._clock() - self._tried_at
        if self._keys is None:
            return since >= FIRST_RETRY_SECONDS
        return since >= (REFETCH_SECONDS if unknown_key or self._problem else KEPT_SECONDS)

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                document = await _get(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                place = _place_of_keys(document, self._issuer)
                self._keys = _key_set(await _get(client, place))
            self._problem = None
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            self._problem = f"does not answer ({type(failure).__name__})"
        except ValueError as failure:
            self._problem = f"answers with something else than its keys ({failure})"
        if self._problem:
            log.warning("api.keys_not_fetched", issuer=self._issuer, problem=self._problem)


async def _get(client: httpx.AsyncClient, url: str) -> str:
    response = await client.get(url, headers={"Accept": "application/json"})
    if response.status_code != httpx.codes.OK:
        raise ValueError(f"status {response.status_code} for {url}")
    return response.text


def _place_of_keys(written: str, issuer: str) -> str:
    """Return `jwks_uri` of the discovery document. Raises `ValueError`."""
    try:
        document = json.loads(written)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("the discovery document is that of another issuer")
    place = document.get("jwks_uri")
    if not isinstance(place, str) or (issuer.startswith("https:") and not place.startswith("https:")):
        raise ValueError("the discovery document has no jwks_uri with https")
    return place


def _key_set(written: str) -> KeySet:
    """Parse a JSON Web Key Set. Keys of other types are ignored (RFC 7517 section 5). Raises `ValueError`."""
    try:
        document = json.loads(written)
        keys = [key for entry in document["keys"] if (key := _key(entry)) is not None]
    except (LookupError, TypeError, ValueError):
        raise ValueError("no JSON Web Key Set") from None
    if not keys:
        raise ValueError("a key set without a key that can be used")
    return KeySet(keys)


def _key(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") not in _KEY_TYPES:
        return None
    try:
        return JWKRegistry.import_key(entry)
    except (JoseError, LookupError, TypeError, ValueError):
        return None
