"""How the files of a source are read, as the playbook says, and what of a document is missing in its text."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

# Named parts that are missing; a scan of 2,000 pages is not listed page by page.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Reading:
    """The choices of a source that extraction needs; the defaults are those of a playbook that says nothing."""

    encoding: str | None = None
    """The label that `source.encoding` has for this document, whose text is not UTF-8 and declares nothing."""
    text_suffixes: tuple[str, ...] = ()
    """Ends of names (`.debian`), and patterns of whole names (`v* notes`), that are read as plain text."""

    def is_text(self, name: str) -> bool:
        """Return whether the source says that a file of this name is plain text; case does not count."""
        lowered = name.lower()
        return any(
            fnmatchcase(lowered, f"*{entry}" if entry.startswith(".") else entry)
            for entry in map(str.lower, self.text_suffixes)
        )


DEFAULT_READING = Reading()


@dataclass(frozen=True, slots=True)
class Partial:
    """What was measured of a document whose stored text is not the whole document."""

    found: int
    expected: int
    """By an independent estimate of the source, in `unit`; never less than `found`."""
    unit: str
    """What is counted: words, pages, paragraphs, members."""
    missing: tuple[str, ...] = ()
    """The parts that are missing, at most MOST_NAMED, each with its reason: `page 3 (probably a scan)`."""

    @property
    def share(self) -> float:
        """Share of the document that is stored, 0 to 1."""
        return self.found / self.expected if self.expected else 1.0

    def __str__(self) -> str:
        named = f"; missing: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.found:,} of {self.expected:,} {self.unit}{named}"


@dataclass(frozen=True, slots=True)
class UnknownTokens:
    """How many of a text's tokens stand for signs that the model does not know."""

    unknown: int
    tokens: int
    """All of the text's own tokens."""

    @property
    def share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0
