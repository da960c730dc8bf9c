"""How a request shows that it comes from the source: by a shared secret, or by a signature of its body."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["HmacSignature", "HookRequest", "SharedSecret", "Verification"]


@dataclass(frozen=True, slots=True)
class HookRequest:
    """What a verification looks at."""

    headers: Mapping[str, str]
    """The headers, by their names in lower case."""
    token: str | None
    """The parameter `token` of the query."""
    body: bytes


class Verification(Protocol):
    """A way to verify requests."""

    @property
    def readable(self) -> bool:
        """Whether the verification needs the secret itself. Otherwise only its hash is stored."""

    def at_rest(self, secret: str) -> bytes:
        """Return what is stored of the secret."""

    def verify(self, stored: bytes, request: HookRequest) -> bool:
        """Return whether the request comes from a sender with the secret."""


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """The request has the secret: as the password of HTTP Basic, as a bearer token, or as `?token=`.

    This verification is for CRMs that sign nothing. The secret identifies the sender and does not protect the body:
    such a source needs TLS.
    """

    readable: bool = False

    def at_rest(self, secret: str) -> bytes:
        # The secret has 256 random bits, so that a slow hash would add nothing.
        return hashlib.sha256(secret.encode()).digest()

    def verify(self, stored: bytes, request: HookRequest) -> bool:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        given = request.token
        if scheme.lower() == "bearer":
            given = credentials.strip()
        elif scheme.lower() == "basic":
            given = _password(credentials.strip())
        return given is not None and hmac.compare_digest(stored, self.at_rest(given))


@dataclass(frozen=True, slots=True)
class HmacSignature:
    """The request has a signature of its body: HMAC-SHA-256 in hexadecimal, in a header of its own."""

    header: str
    """The name of the header."""
    prefix: str = ""
    """What stands before the signature, such as `sha256=`."""
    readable: bool = True

    def at_rest(self, secret: str) -> bytes:
        return secret.encode()

    def verify(self, stored: bytes, request: HookRequest) -> bool:
        signature = self.prefix + hmac.new(stored, request.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature.encode(), request.headers.get(self.header.lower(), "").encode())


def _password(basic: str) -> str | None:
    try:
        return base64.b64decode(basic, validate=True).decode().partition(":")[2]
    except ValueError:
        return None
