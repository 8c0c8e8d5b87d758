"""Make text harmless for a terminal: file names, queries and messages come from other people.

An escape sequence could hide lines, set the window's title, or write to the clipboard.
"""

from __future__ import annotations

# C0 and C1 control characters, DEL, and the marks that reverse the direction of text: with those, `cod.exe` looks
# like another name. Line feed and tab are plain layout.
_HARMFUL = [
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"),
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
]
_VISIBLE = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HARMFUL}
_AS_JSON = {code: f"\\u{code:04x}" for code in _HARMFUL}


def printable(text: str) -> str:
    """Return the text with every harmful character as its escape, `\\x1b` for one."""
    return text.translate(_VISIBLE)


def printable_json(text: str) -> str:
    """Return a JSON document with the harmful characters that JSON itself leaves as they are escaped its way."""
    # Between strings they cannot stand, line feeds and tabs of the layout excepted.
    return text.translate(_AS_JSON)
