"""What of a source cannot become a document, counted and named, while the rest goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

# Returns why a location cannot be stored; None if it can.
IsStorable = Callable[[str], str | None]

# Of each kind: enough to see what they have in common, and few enough for a screen.
MOST_NAMED = 5
# By kind: what one of them is, and what several are.
KINDS = {
    "folders": ("folder that cannot be listed", "folders that cannot be listed"),
    "names": ("file whose name cannot be stored", "files whose names cannot be stored"),
    "links": ("link that leads to nothing inside the folder", "links that lead to nothing inside the folder"),
    "repeated": ("line of the manifest that names a file again", "lines of the manifest that name a file again"),
}
CURES = {
    "folders": "make the folders readable for this user (a path that is too long: shorter)",
    "names": "rename the files",
    "links": "correct the links",
}


@dataclass(slots=True)
class LeftOut:
    """Counts by kind, and the first of each kind by name; empty for a source that is taken whole."""

    counts: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    unfollowed: int = 0
    """Symbolic links that the patterns choose and that are not followed, as documented."""

    def add(self, kind: str, location: str, reason: str) -> None:
        """Count one; `location` may contain bytes that are not UTF-8, as `os.scandir` gives them."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.named.setdefault(kind, [])
        if len(named) < MOST_NAMED:
            named.append(f"{printable(location)} ({reason})")

    @property
    def is_problem(self) -> bool:
        """Whether something was left out that the source was meant to have."""
        return any(self.counts.get(kind) for kind in CURES)

    def lines(self) -> list[str]:
        """Return a line for each kind, with the first names."""
        found = []
        for kind, count in self.counts.items():
            one, several = KINDS[kind]
            names = ", ".join(self.named[kind]) + (", …" if count > len(self.named[kind]) else "")
            found.append(f"{count:,} {one if count == 1 else several}: {names}")
        return found

    @property
    def cure(self) -> str:
        """What to do about it, for all kinds that were met."""
        cures = ", ".join(cure for kind, cure in CURES.items() if self.counts.get(kind))
        return f"{cures}, or leave them out: source.exclude (--exclude)"

    def to_json(self) -> dict[str, object]:
        """Return the counts and first names by kind, for `--json` and the ledger."""
        return {kind: {"count": count, "first": list(self.named[kind])} for kind, count in self.counts.items()}


def printable(location: str) -> str:
    """Return a location without what a terminal or PostgreSQL's text refuses: `caf\\xe9.txt`."""
    shown = "".join(
        f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in location
    ).encode("utf-8", "backslashreplace")
    text = shown.decode("utf-8")
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"


def storable(limit: int | None = None, encoding: str = "utf-8") -> IsStorable:
    """Return a test of locations: why one cannot be stored in a column of `limit` characters; None if it can."""

    def reason(location: str) -> str | None:
        try:
            # os.scandir decodes bytes that are not UTF-8 to lone surrogates, which PostgreSQL's text refuses.
            location.encode("utf-8")
        except UnicodeEncodeError:
            return "its bytes are not UTF-8"
        if limit is not None and len(location) > limit:
            return f"{len(location):,} characters, and the queue's column takes {limit:,}"
        if encoding != "utf-8" and not location.isascii():
            try:
                location.encode(encoding)
            except UnicodeEncodeError as error:
                return f"the database's encoding has no {error.object[error.start]!r}"
        return None

    return reason
