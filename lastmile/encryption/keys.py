"""The keys of the payload encryption. The first key encrypts; each key decrypts the payloads that have its name."""

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
# 96 bits, as NIST SP 800-38D recommends. With random nonces, a key is safe for 2^32 payloads; rotate it before that.
NONCE_BYTES = 12
_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]+={0,2})")


class DecryptionError(LastmileError):
    """The payload cannot be decrypted: the key is missing, or the payload was changed."""


class KeyRing:
    """Named keys for AES-256-GCM."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self.newest = next(iter(keys))
        """The name of the key that encrypts."""

    @classmethod
    def parse(cls, written: str) -> Self:
        """Parse `name:key,name:key`, each key 32 bytes in base64.

        Raises:
            ValueError: the text is malformed. The message contains no key.
        """
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(filter(None, written.split(",")), 1):
            found = _ENTRY.fullmatch(entry.strip())
            key = _decode(found[2]) if found else None
            if found is None or key is None:
                raise ValueError(f"entry {position} is not `name:key` with {KEY_BYTES} bytes of base64 as the key")
            if found[1] in keys:
                raise ValueError(f"two keys have the name {found[1]}")
            keys[found[1]] = key
        if not keys:
            raise ValueError("contains no key")
        return cls(keys)

    def encrypt(self, plain: bytes) -> tuple[str, bytes]:
        """Encrypt the bytes. Return the name of the key, and the nonce followed by the ciphertext."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self.newest].encrypt(nonce, plain, self.newest.encode())
        return self.newest, nonce + sealed

    def decrypt(self, name: str, sealed: bytes) -> bytes:
        """Decrypt the bytes with the key of this name.

        Raises:
            DecryptionError: there is no such key, the key has another value, or the bytes were changed.
        """
        if name not in self._ciphers:
            raise DecryptionError(
                f"The payload is encrypted with key {name!r}, which LASTMILE_ENCRYPTION_KEYS does not have (it has "
                f"{', '.join(self._ciphers)}). Append that key."
            )
        try:
            return self._ciphers[name].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"Cannot decrypt the payload with key {name!r}: the key in LASTMILE_ENCRYPTION_KEYS has another value, "
                "or the payload was changed."
            ) from None


def _decode(key: str) -> bytes | None:
    try:
        decoded = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == KEY_BYTES else None
