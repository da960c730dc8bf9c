"""Tests of the conversion of text that FreeRADIUS's SQL module has escaped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastmile.contract.lines import Reference, TenantId
from lastmile.radius.escaping import printable, unescaped
from lastmile.radius.logins import username
from tests.radius.test_accounts import of

SAFE = "@abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_: /"
"""`safe_characters` of a stock FreeRADIUS 3.2."""

CONTROL = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escaped(sent: bytes) -> str:
    """Escape text as `sql_escape_func` of rlm_sql 3.2 does."""
    return "".join(map(_escaped, sent.decode(errors="surrogateescape")))


def _escaped(character: str) -> str:
    raw = character.encode(errors="surrogateescape")
    if character in SAFE or len(raw) > 1:
        return character
    return CONTROL.get(character) or f"={raw[0]:02X}"


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ("=23bng1=23ge-1/0/0=23100", "#bng1#ge-1/0/0#100"),
        ("a=7Cb=2Bc=3Dd=231", "a|b+c=d#1"),
        ("=3D23", "=23"),
        ("Zürich=21", "Zürich!"),
        ("caf=E9", "caf\udce9"),
        (r"one\ntwo=5Cn", "one\ntwo\\n"),
        ("00-1A-2B-3C-4D-5E", "00-1A-2B-3C-4D-5E"),
        ("", ""),
        # Of a FreeRADIUS with `auto_escape`, which stores text as it is.
        ("a=b", "a=b"),
        ("=2", "=2"),
        ("=2f", "=2f"),
        (r"DOMAIN\user", r"DOMAIN\user"),
    ],
)
def test_unescaped_returns_the_text_that_the_nas_sent(stored: str, sent: str) -> None:
    assert unescaped(stored) == sent


@given(st.binary(max_size=40))
def test_unescaped_undoes_the_escaping_of_any_bytes(sent: bytes) -> None:
    assert unescaped(escaped(sent)).encode(errors="surrogateescape") == sent


@given(tenant=of(TenantId), ref=of(Reference))
def test_username_of_any_subscriber_needs_no_escaping(tenant: str, ref: str) -> None:
    """FreeRADIUS looks up accounts by the escaped name: it would not find a name with other characters."""
    assert set(username(tenant, ref)) <= set(SAFE)


@pytest.mark.parametrize(("text", "shown"), [("4F0C", "4F0C"), ("a\x1b[2J", r"a\x1b[2J"), ("caf\udce9", r"caf\udce9")])
def test_printable_text_has_no_control_character(text: str, shown: str) -> None:
    assert printable(text) == shown
