"""Why items failed, in groups: reasons that differ only in numbers, offsets and names are one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# More groups than anybody reads; what is rarer is counted together, so that memory stays bounded.
MOST_GROUPS = 500
OTHER = "other reasons"

# The names of what refused a document tell groups apart; other quoted words are values.
_KEPT = ("constraint", "relation", "table", "column", "index", "function", "trigger", "type", "encoding")
_QUOTED = "".join(f"(?<!{word} )" for word in _KEPT) + r"""(?:(?<!\w)'[^']*'(?!\w)|"[^"]*")"""
_MEDIA = r"(?:application|audio|font|image|message|model|multipart|text|video)/"
_VARYING = (
    # What is missing in a document is a list of its own.
    (re.compile(r"; missing: .*", re.DOTALL), "; missing: …"),
    (re.compile(r"\b(symbolic link|not a folder): .*", re.DOTALL), r"\1: …"),
    (re.compile(r"=\([^()]*\)"), "=(…)"),
    (re.compile(_QUOTED), "'…'"),
    (re.compile(rf"(?<![\w.])(?!{_MEDIA})[^\s'\"(]*[\w.~]/[^\s'\"),;:]+"), "…"),
    (re.compile(r"(?<![\w./…])[\w\[\]-]+\.[A-Za-z][A-Za-z0-9]{1,4}(?![\w.])"), "…"),
    (re.compile(r"\b0x[0-9a-fA-F]+|\bU\+[0-9A-Fa-f]+|\b(?=[a-f]*\d)[0-9a-f]{8,}\b"), "…"),
    # Not the numbers in UTF-8 or iso-8859-1.
    (re.compile(r"(?<![\w.-])\d[\d,.]*(?<![,.])(?!\w)"), "N"),
)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Items that failed for the same reason."""

    reason: str
    """As it was recorded where all have the same; else with `N` and `…` for what differs."""
    items: int
    location: str
    """Of one of them."""
    example: str
    """The reason of that one."""

    def to_json(self) -> dict[str, object]:
        return {
            "reason": self.reason,
            "items": self.items,
            "example": {"location": self.location, "reason": self.example},
        }


def normalised(reason: str) -> str:
    """Return a reason without what differs from document to document."""
    for pattern, stand_in in _VARYING:
        reason = pattern.sub(stand_in, reason)
    return reason


def grouped(reasons: Iterable[tuple[str | None, int, str]]) -> tuple[FailureGroup, ...]:
    """Return the groups, the largest first, of (reason, items, one location), the most frequent reason first."""
    found: dict[str, FailureGroup] = {}
    for recorded, items, location in reasons:
        exact = recorded or "no reason was recorded"
        key = normalised(exact)
        if key not in found and len(found) >= MOST_GROUPS:
            key = OTHER
        group = found.get(key)
        if group is None:
            found[key] = FailureGroup(OTHER if key == OTHER else exact, items, location, exact)
        else:
            found[key] = FailureGroup(key, group.items + items, group.location, group.example)
    return tuple(sorted(found.values(), key=lambda group: (-group.items, group.reason)))
