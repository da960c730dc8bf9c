"""The keys that payloads are encrypted with: the first one encrypts, each of them decrypts what it has encrypted."""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lastmile.errors import LastmileError

__all__ = ["DecryptionError", "KeyRing"]

KEY_BYTES = 32
# 96 bits, as NIST SP 800-38D recommends. Random: good for 2^32 payloads a key, after which it is rotated.
NONCE_BYTES = 12
_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]+={0,2})")


class DecryptionError(LastmileError):
    """A payload that this key ring cannot open: its key is missing, or it was changed."""


class KeyRing:
    """AES-256-GCM with one of several keys."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self.newest = next(iter(keys))
        """The name of the one that encrypts."""

    @classmethod
    def parse(cls, written: str) -> Self:
        """From `name:key,name:key`, each key 32 bytes in base64. Raises `ValueError`, which shows no key."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(filter(None, written.split(",")), 1):
            found = _ENTRY.fullmatch(entry.strip())
            key = _decoded(found[2]) if found else None
            if found is None or key is None:
                raise ValueError(f"entry {position} is not `name:key` with {KEY_BYTES} bytes of base64 as the key")
            if found[1] in keys:
                raise ValueError(f"two keys are named {found[1]}")
            keys[found[1]] = key
        if not keys:
            raise ValueError("there is no key in it")
        return cls(keys)

    def encrypt(self, plain: bytes) -> tuple[str, bytes]:
        """The name of the key, and what it made of the bytes."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self.newest].encrypt(nonce, plain, self.newest.encode())
        return self.newest, nonce + sealed

    def decrypt(self, name: str, sealed: bytes) -> bytes:
        """Raises `DecryptionError`."""
        if name not in self._ciphers:
            raise DecryptionError(
                f"encrypted with key {name!r}, which LASTMILE_ENCRYPTION_KEYS does not have "
                f"(it has {', '.join(self._ciphers)}): add it behind the others"
            )
        try:
            return self._ciphers[name].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"encrypted with a key named {name!r} that is not the one of LASTMILE_ENCRYPTION_KEYS, or changed since"
            ) from None


def _decoded(key: str) -> bytes | None:
    try:
        decoded = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == KEY_BYTES else None
