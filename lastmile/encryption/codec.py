"""The data converter of every client and worker: pydantic's, with encryption if there is a key ring.

Every payload in Temporal is encrypted: orders, results, results of steps, memos, summaries, updates and their replies,
and the messages of failures. Ids and search attributes are not encrypted, and contain only opaque references.
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

__all__ = ["EncryptionCodec", "data_converter", "encode_unencrypted"]

# The names of Temporal's samples, by which other tools recognise an encrypted payload.
ENCODING = "binary/encrypted"
KEY_ID = "encryption-key-id"


class EncryptionCodec(PayloadCodec):
    """A codec that encrypts whole payloads, including their metadata.

    Payloads that are not encrypted pass unchanged, so that runs from before the encryption continue.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload."""
        return [self.encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt each encrypted payload.

        Raises:
            DecryptionError: the key ring does not have the key, or the payload was changed.
        """
        return [self.decrypt(payload) for payload in payloads]

    def encrypt(self, payload: Payload) -> Payload:
        """Encrypt a payload with the newest key."""
        name, sealed = self._keys.encrypt(payload.SerializeToString())
        return Payload(metadata={"encoding": ENCODING.encode(), KEY_ID: name.encode()}, data=sealed)

    def decrypt(self, payload: Payload) -> Payload:
        """Decrypt a payload; return an unencrypted payload unchanged.

        Raises:
            DecryptionError: the key ring does not have the key, or the payload was changed.
        """
        if payload.metadata.get("encoding") != ENCODING.encode():
            return payload
        name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        return Payload.FromString(self._keys.decrypt(name, payload.data))

    def reencrypt(self, payload: Payload) -> Payload:
        """Encrypt a payload that has an older key with the newest key; return other payloads unchanged.

        Raises:
            DecryptionError: the key ring does not have the key, or the payload was changed.
        """
        if payload.metadata.get(KEY_ID) in (None, self._keys.newest.encode()):
            return payload
        return self.encrypt(self.decrypt(payload))


class _MissingKeysConverter(EncodingPayloadConverter):
    """A converter for encrypted payloads in a process without keys, which raises an error with the remedy."""

    encoding = ENCODING

    def to_payload(self, value: Any) -> None:
        """Leave every value to the other converters."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Raise `DecryptionError`."""
        name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        raise DecryptionError(
            f"The payload is encrypted with key {name!r}, and this process has no keys. Set LASTMILE_ENCRYPTION_KEYS."
        )


@functools.cache
def _adapter(type_hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_hint)


class _StoredJsonConverter(PydanticJSONPlainPayloadConverter):
    """A converter that also loads values which an older version accepted: an upgrade must not fail an open run."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Load a value. Raise pydantic's `ValidationError` for an invalid one."""
        return _adapter(Any if type_hint is None else type_hint).validate_json(payload.data, context=STORED)


class _Converter(PydanticPayloadConverter):
    def __init__(self) -> None:
        super().__init__()
        stored, missing_keys = _StoredJsonConverter(), _MissingKeysConverter()
        self.converters = {**self.converters, stored.encoding.encode(): stored, ENCODING.encode(): missing_keys}


_PLAIN = replace(pydantic_data_converter, payload_converter_class=_Converter)


def data_converter(keys: KeyRing | None) -> DataConverter:
    """Return the data converter. Without keys, values are not encrypted, and encrypted payloads raise an error."""
    if keys is None:
        return _PLAIN
    return replace(
        _PLAIN,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def encode_unencrypted(value: Any) -> Payload:
    """Encode a value without encryption: Temporal shows it, and it stays readable if the keys are lost."""
    return pydantic_data_converter.payload_converter.to_payload(value)
