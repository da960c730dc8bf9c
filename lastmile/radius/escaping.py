"""Conversion between the text that a NAS sends and the text that FreeRADIUS's SQL module stores and looks up.

A NAS recognises only the value that it sent. rlm_sql stores values as follows:

- a single-byte character outside the stock `safe_characters`: `=XX` (`#` as `=23`, `=` as `=3D`);
- newline, carriage return and tab: `\\n`, `\\r` and `\\t`;
- a multi-byte UTF-8 character: unchanged;
- a byte that is not UTF-8: `=XX`.
"""

import re

__all__ = ["escaped", "printable", "unescaped"]

_ESCAPE = re.compile(r"=([0-9A-F]{2})|\\([nrt])")
_UNSAFE = re.compile(r"[^@a-zA-Z0-9._: /\u0080-\U0010ffff-]")
_CONTROL = {"n": b"\n", "r": b"\r", "t": b"\t"}


def escaped(sent: str) -> str:
    """Return the text that rlm_sql stores, and looks up, for a printable text that the NAS sends."""
    return _UNSAFE.sub(lambda found: f"={ord(found[0]):02X}", sent)


def unescaped(stored: str) -> str:
    """Return the text that the NAS sent, given the value in a text column of `radacct`.

    Bytes that are not UTF-8 become surrogates (`errors="surrogateescape"`). A value with an `=` or a backslash that
    starts no escape is returned unchanged: such a FreeRADIUS does not escape (`auto_escape`, other `safe_characters`).
    """
    if re.search(r"[=\\]", _ESCAPE.sub("", stored)):
        return stored
    parts: list[bytes] = []
    end = 0
    for escape in _ESCAPE.finditer(stored):
        parts.append(stored[end : escape.start()].encode())
        parts.append(bytes.fromhex(escape[1]) if escape[1] else _CONTROL[escape[2]])
        end = escape.end()
    return b"".join([*parts, stored[end:].encode()]).decode(errors="surrogateescape")


def printable(text: str) -> str:
    """Return `text` for a message or a terminal; a text with non-printable characters is escaped."""
    return text if text.isprintable() else ascii(text)[1:-1]
