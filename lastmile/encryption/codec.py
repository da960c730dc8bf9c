"""The data converter of every client and worker: pydantic's, and encrypted where there is a key ring.

Encrypted is whatever Temporal keeps as a payload: orders, results, what steps return, memos, summaries, updates and
their answers, and the words of failures. Ids and search attributes are not, and hold opaque references alone.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import (
    PydanticJSONPlainPayloadConverter,
    PydanticPayloadConverter,
    pydantic_data_converter,
)
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    EncodingPayloadConverter,
    PayloadCodec,
)

from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.fields.stored import STORED

__all__ = ["EncryptionCodec", "data_converter", "plain"]

# As in Temporal's samples: other tools know an encrypted payload by them.
ENCODING = "binary/encrypted"
KEY_ID = "encryption-key-id"


class EncryptionCodec(PayloadCodec):
    """Each payload whole, its metadata included. What is not encrypted passes: runs of before go on."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each."""
        return [self.encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt each that is encrypted. Raises `DecryptionError`."""
        return [self.decrypted(payload) for payload in payloads]

    def encrypted(self, payload: Payload) -> Payload:
        name, sealed = self._keys.encrypt(payload.SerializeToString())
        return Payload(metadata={"encoding": ENCODING.encode(), KEY_ID: name.encode()}, data=sealed)

    def decrypted(self, payload: Payload) -> Payload:
        """Raises `DecryptionError`."""
        if payload.metadata.get("encoding") != ENCODING.encode():
            return payload
        name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        return Payload.FromString(self._keys.decrypt(name, payload.data))

    def renewed(self, payload: Payload) -> Payload:
        """Encrypted with the newest key, where it is with an older one. Raises `DecryptionError`."""
        if payload.metadata.get(KEY_ID) in (None, self._keys.newest.encode()):
            return payload
        return self.encrypted(self.decrypted(payload))


class _Locked(EncodingPayloadConverter):
    """Says what is missing, where an encrypted payload reaches who has no keys."""

    encoding = ENCODING

    def to_payload(self, value: Any) -> None:
        """Nothing is for this one to encode."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        raise DecryptionError(f"encrypted with key {name!r}, and LASTMILE_ENCRYPTION_KEYS is not set here: set it")


@functools.cache
def _adapter(type_hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_hint)


class _StoredJson(PydanticJSONPlainPayloadConverter):
    """Loads what an older version wrote, whose models accepted more: an open run must not end by an upgrade."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Raises pydantic's `ValidationError`."""
        return _adapter(Any if type_hint is None else type_hint).validate_json(payload.data, context=STORED)


class _Converter(PydanticPayloadConverter):
    def __init__(self) -> None:
        super().__init__()
        stored = _StoredJson()
        self.converters = {**self.converters, stored.encoding.encode(): stored, ENCODING.encode(): _Locked()}


_PLAIN = replace(pydantic_data_converter, payload_converter_class=_Converter)


def data_converter(keys: KeyRing | None) -> DataConverter:
    """Without keys, what is encrypted is refused with a sentence, and all else is as if there were no encryption."""
    if keys is None:
        return _PLAIN
    return replace(
        _PLAIN,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def plain(value: Any) -> Payload:
    """For what Temporal shows all the same, and what must be readable whatever becomes of the keys."""
    return pydantic_data_converter.payload_converter.to_payload(value)
