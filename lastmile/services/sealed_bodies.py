"""Contents that are stored encrypted where encryption keys are configured."""

from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.subscribers.accepted_orders import SealedBody

__all__ = ["seal", "unseal"]


def seal(content: bytes, keys: KeyRing | None) -> SealedBody:
    """Return the content, encrypted where there are keys."""
    if keys is None:
        return SealedBody(content, None)
    name, sealed = keys.encrypt(content)
    return SealedBody(sealed, name)


def unseal(sealed: SealedBody, keys: KeyRing | None, what: str) -> bytes:
    """Return the content. `what` begins the message of the error.

    Raises:
        DecryptionError: this process lacks the key, or the content was changed.
    """
    if sealed.key_name is None:
        return sealed.content
    if keys is None:
        raise DecryptionError(
            f"{what} is encrypted with key {sealed.key_name!r}, and this process has no keys. "
            "Set LASTMILE_ENCRYPTION_KEYS."
        )
    return keys.decrypt(sealed.key_name, sealed.content)
