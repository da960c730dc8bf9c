"""Tests of key rings."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastmile.encryption.keys import KEY_BYTES, DecryptionError, KeyRing

OLD, NEW = bytes(range(KEY_BYTES)), bytes(range(KEY_BYTES, 2 * KEY_BYTES))


def written(**keys: bytes) -> str:
    return ",".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in keys.items())


@given(st.binary())
def test_decrypt_returns_the_encrypted_bytes(plain: bytes) -> None:
    ring = KeyRing.parse(written(k1=OLD))
    name, sealed = ring.encrypt(plain)
    assert ring.decrypt(name, sealed) == plain
    assert len(plain) < 4 or plain not in sealed
    assert ring.encrypt(plain)[1] != sealed


def test_key_ring_after_a_rotation_reads_old_and_writes_new_payloads() -> None:
    name, sealed = KeyRing.parse(written(k1=OLD)).encrypt(b"order")
    # First every process gets the new key. Then every process uses it.
    for ring in (KeyRing.parse(written(k1=OLD, k2=NEW)), KeyRing.parse(written(k2=NEW, k1=OLD))):
        assert ring.decrypt(name, sealed) == b"order"
    assert KeyRing.parse(written(k1=OLD, k2=NEW)).encrypt(b"")[0] == "k1"
    assert KeyRing.parse(written(k2=NEW, k1=OLD)).encrypt(b"")[0] == "k2"


def test_decrypt_without_the_key_names_it() -> None:
    name, sealed = KeyRing.parse(written(k1=OLD)).encrypt(b"order")
    with pytest.raises(DecryptionError, match=r"key 'k1', which LASTMILE_ENCRYPTION_KEYS does not have \(it has k2\)"):
        KeyRing.parse(written(k2=NEW)).decrypt(name, sealed)
    ring = KeyRing.parse(written(k1=NEW, k2=OLD))
    for broken in (sealed, sealed[:5], b""):
        with pytest.raises(DecryptionError, match="another value, or the payload was changed"):
            ring.decrypt(name, broken)
    same = KeyRing.parse(written(k1=OLD, k3=OLD))
    with pytest.raises(DecryptionError):  # the name is part of what is authenticated
        same.decrypt("k3", sealed)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "contains no key"),
        (",", "contains no key"),
        ("k1", "entry 1 is not `name:key` with 32 bytes of base64"),
        (written(k1=OLD) + ",k2:c2hvcnQ=", "entry 2 is not"),
        ("k1:" + "A" * 43, "entry 1 is not"),
        ("k 1:" + written(x=OLD)[2:], "entry 1 is not"),
        (written(k1=OLD) + "," + written(k1=NEW), "two keys have the name k1"),
    ],
)
def test_parse_of_an_invalid_key_ring_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as failure:
        KeyRing.parse(text)
    assert "c2hvcnQ" not in str(failure.value)
    assert written(x=OLD)[2:] not in str(failure.value)
