"""Tell texts in which a reader finds nothing: white space, byte order marks, zero-width and control characters."""

from __future__ import annotations

import unicodedata

# Control and format characters and the separators, by Unicode's general categories. Characters of private use and
# unassigned ones are text in somebody's font. Some letters show nothing either: Hangul's fillers, Braille's blank.
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xFE00, 0xFE10))
)
_MOST_NAMED = 3


def is_blank(text: str) -> bool:
    """Return whether a text has no character that a reader can see."""
    return all(_is_invisible(character) for character in text)


def why_blank(text: str) -> str:
    """Return the reason for a blank text."""
    if not text:
        return "empty document: no text in it"
    if not text.strip():
        return "empty document: only whitespace"
    kinds = sorted({character for character in text if not character.isspace()})
    named = ", ".join(f"U+{ord(character):04X}" for character in kinds[:_MOST_NAMED])
    more = f" and {len(kinds) - _MOST_NAMED} more" if len(kinds) > _MOST_NAMED else ""
    return f"empty document: only characters that show nothing ({named}{more})"


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE or character in _FILLERS
