"""Text as FreeRADIUS's SQL module stores it, and as the NAS sent it.

With its stock `safe_characters`, rlm_sql stores every other single-byte character as `=XX` (`#` as `=23`, `=` itself as
`=3D`), and a newline, a carriage return and a tab as `\\n`, `\\r` and `\\t`. Multi-byte UTF-8 is stored as it is; bytes
that are no UTF-8 are stored as `=XX`. A NAS recognises only the value that it sent.
"""

import re

__all__ = ["printable", "unescaped"]

_ESCAPE = re.compile(r"=([0-9A-F]{2})|\\([nrt])")
_CONTROL = {"n": b"\n", "r": b"\r", "t": b"\t"}


def unescaped(stored: str) -> str:
    """Return what the NAS sent, given the value in a text column of `radacct`.

    Bytes that are no UTF-8 become surrogates (`errors="surrogateescape"`). A value with an `=` or a backslash that
    starts no escape is returned as it is: that FreeRADIUS does not escape (`auto_escape`, other `safe_characters`).
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
    """Return `text` for a message or a terminal: with escapes where a character is not printable."""
    return text if text.isprintable() else ascii(text)[1:-1]
