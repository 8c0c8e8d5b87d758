"""The failure of one document: it fails that item with its reason, never the campaign."""

from __future__ import annotations

from ragops.errors import RagopsError

# Stored per failed item and shown in tables. A parser's message may quote a whole document.
LONGEST_REASON = 500


class Unreadable(RagopsError):
    """One document cannot be turned into text, because of the document itself.

    `reason` is stored as the item's last error: at most `LONGEST_REASON` characters on one line, without
    NUL and lone surrogates, which PostgreSQL's `text` refuses.
    """

    def __init__(self, reason: str, *, where: str | None = None) -> None:
        self.reason = _storable(reason)
        super().__init__(
            f"the document cannot be read: {self.reason}",
            where=None if where is None else _storable(where),
            hint="fix or remove the document, then: ragops queue retry",
        )


def _storable(text: str) -> str:
    """Return the text as one bounded line that PostgreSQL can store."""
    one_line = " ".join(text.replace("\0", "\\0").split())
    encodable = one_line.encode("utf-8", "backslashreplace").decode("utf-8")
    return encodable if len(encodable) <= LONGEST_REASON else encodable[: LONGEST_REASON - 1] + "…"
