"""What a reader returns, and how it measures that nothing is missing."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Fewer characters than this share of an independent count of the same file are said to be partial. The two
# counts differ a little by nature: one sees an entity or a field's result that the other does not.
_WHOLE = 0.98
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Read:
    """The text of a document, and what of it is missing: found < expected, or named parts."""

    text: str
    media_type: str
    found: int = 0
    expected: int = 0
    unit: str = ""
    missing: tuple[str, ...] = ()


def measured(text: str, media_type: str, expected: int, missing: tuple[str, ...] = ()) -> Read:
    """Return a text with its characters held against an independent count, white space left out."""
    found = visible(text)
    if missing or found < expected * _WHOLE:
        return Read(text, media_type, min(found, expected), expected, "characters", missing)
    return Read(text, media_type)


def visible(text: str) -> int:
    """Return the number of characters that are not white space."""
    return len(_SPACE.sub("", text))
