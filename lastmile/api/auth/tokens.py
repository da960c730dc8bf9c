"""JSON Web Tokens of an identity provider (RFC 7519, RFC 9068), verified with its public keys.

`tenant` says for which tenant the caller works: its id, or `*` for all tenants. A token without this claim is refused,
so that no identity provider grants access to all tenants by leaving something out. `scope` (RFC 8693 section 4.2) lists
the permissions; other words in it, such as `openid`, are ignored.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
    MissingClaimError,
    UnsupportedAlgorithmError,
)
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry
from pydantic import TypeAdapter, ValidationError

from lastmile.api.auth.key_sets import KeySource
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import API_KEY_SUBJECT, Principal
from lastmile.contract.lines import TenantId
from lastmile.errors import LastmileError
from lastmile.fields.unsafe import UNSAFE_CHARACTER
from lastmile.services.api_keys import PrincipalKind

__all__ = ["ALGORITHMS", "LEEWAY_SECONDS", "InvalidTokenError", "TokenVerifier"]

ALGORITHMS: Final = ("RS256", "ES256", "Ed25519", "EdDSA")
"""Never `none`, and never HS256: the key of that algorithm can also sign. EdDSA is the older name of Ed25519."""
LEEWAY_SECONDS: Final = 30
"""The clock of the issuer may differ by this much."""

ALL_TENANTS = "*"
LONGEST_SUBJECT = 100
LONGEST_TOKEN = 16_384
LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TENANT: TypeAdapter[str] = TypeAdapter(TenantId)


class InvalidTokenError(LastmileError):
    """The bearer token is malformed, unknown, expired or revoked."""


class _Registry(JWSRegistry):
    """The algorithms above, without the warning that joserfc gives for each token with the header EdDSA."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)  # unknown headers: RFC 7515 section 4


class TokenVerifier:
    """Verifies tokens for this API."""

    def __init__(
        self,
        keys: KeySource,
        *,
        audience: str,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Verify with these keys. A token must name the audience, and the issuer if one is given."""
        self._keys = keys
        options: dict[str, ClaimsOption] = {name: {"essential": True} for name in ("sub", "exp", "tenant")}
        options["aud"] = {"essential": True, "value": audience}
        if issuer is not None:
            options["iss"] = {"essential": True, "value": issuer}
        self._claims = JWTClaimsRegistry(lambda: int(now()), LEEWAY_SECONDS, **options)

    async def verify(self, token: str) -> Principal:
        """Return the caller.

        Raises:
            InvalidTokenError: the token is malformed, forged, expired or for another API.
            UnavailableError: the issuer's keys cannot be fetched.
        """
        if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            raise InvalidTokenError("The bearer token is neither an API key of Lastmile nor a JSON Web Token.")
        keys = await self._keys.keys()
        try:
            claims = _decode(token, keys)
        except InvalidKeyIdError:
            claims = await self._decode_with_new_keys(token)
        try:
            self._claims.validate(claims)
        except JoseError as failure:
            raise _invalid(failure) from None
        return _principal(claims)

    async def _decode_with_new_keys(self, token: str) -> dict[str, Any]:
        try:
            return _decode(token, await self._keys.keys(unknown_key=True))
        except InvalidKeyIdError:
            raise InvalidTokenError("The token is signed with a key that its issuer does not publish.") from None


def _decode(token: str, keys: KeySet) -> dict[str, Any]:
    """Verify the signature and return the claims. Raises `InvalidTokenError` and `InvalidKeyIdError`."""
    try:
        return jwt.decode(token, keys, registry=_REGISTRY).claims
    except InvalidKeyIdError:
        raise
    except (JoseError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as failure:
        raise _invalid(failure) from None


def _invalid(failure: Exception) -> InvalidTokenError:
    match failure:
        case BadSignatureError():
            return InvalidTokenError("The signature of the token does not match.")
        case UnsupportedAlgorithmError():
            return InvalidTokenError(
                f"The token is signed with an algorithm that is not allowed. Allowed: {', '.join(ALGORITHMS)}."
            )
        case ExpiredTokenError():
            return InvalidTokenError("The token has expired. Get a new one from its issuer.")
        case MissingClaimError() | InvalidClaimError():
            words = "lacks" if isinstance(failure, MissingClaimError) else "has a wrong value of"
            return InvalidTokenError(f"The token {words} the claim {failure.claim.replace(',', ', ')}.")
        case _:
            return InvalidTokenError("The bearer token is not a signed JSON Web Token.")


def _principal(claims: dict[str, Any]) -> Principal:
    subject, tenant, scope = claims["sub"], claims["tenant"], claims.get("scope", "")
    if not 0 < len(subject) <= LONGEST_SUBJECT or UNSAFE_CHARACTER.search(subject):
        raise InvalidTokenError(f"The claim sub of the token must be 1 to {LONGEST_SUBJECT} printable characters.")
    if subject.startswith(API_KEY_SUBJECT):
        raise InvalidTokenError(f"The claim sub of the token must not begin with {API_KEY_SUBJECT}: API keys do.")
    if not isinstance(scope, str):
        raise InvalidTokenError("The claim scope of the token must be text: permissions with blanks between them.")
    try:
        bound = None if tenant == ALL_TENANTS else _TENANT.validate_python(tenant)
    except ValidationError:
        raise InvalidTokenError(
            f"The claim tenant of the token must be the id of a tenant, or {ALL_TENANTS}."
        ) from None
    return Principal(
        subject=subject,
        tenant=bound,
        permissions=frozenset(permission for permission in Permission if permission in scope.split()),
        kind=PrincipalKind.PERSON,
        expires=datetime.fromtimestamp(min(claims["exp"], LATEST), UTC),
    )
