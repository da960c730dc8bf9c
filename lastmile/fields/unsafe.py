"""Characters that are unsafe in a terminal, a log or a database, and their escapes.

Control characters move a terminal's cursor, hide or forge lines, and end strings. PostgreSQL cannot store NUL.
Bidirectional overrides (Unicode TR36 section 3.3) show text in another order than programs read it.
"""

import re

__all__ = ["UNSAFE_CHARACTER", "escape"]

# C0, DEL and C1; line and paragraph separator; bidirectional embeddings, overrides and isolates; half a surrogate pair.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_UNSAFE_BUT_LINE_END = re.compile(f"(?!\n)[{_UNSAFE}]")


def escape(text: str, *, keep_lines: bool = False) -> str:
    r"""Replace unsafe characters by escapes such as `\x1b` or `\u202e`; with `keep_lines`, keep line feeds."""
    unsafe = _UNSAFE_BUT_LINE_END if keep_lines else UNSAFE_CHARACTER
    return unsafe.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
