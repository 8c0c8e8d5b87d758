"""What one item's failure is: it fails that item with its reason, never the campaign."""

from __future__ import annotations

from ragops.errors import RagopsError

LONGEST_REASON = 500


class Unreadable(RagopsError):
    """One document cannot be turned into text; the fault is the document's own.

    `reason` is at most `LONGEST_REASON` characters on one line and free of what PostgreSQL's
    `text` refuses, because it is stored as the item's last error.
    """

    def __init__(self, reason: str, *, where: str | None = None) -> None:
        self.reason = _storable(reason)
        super().__init__(
            f"the document cannot be read: {self.reason}",
            where=None if where is None else _storable(where),
            hint="mend or remove the document, then queue it again",
        )


def _storable(text: str) -> str:
    """Without NUL and lone surrogates, which a parser's message or a file name may carry."""
    one_line = " ".join(text.replace("\0", "\\0").split())
    encodable = one_line.encode("utf-8", "backslashreplace").decode("utf-8")
    return encodable if len(encodable) <= LONGEST_REASON else encodable[: LONGEST_REASON - 1] + "…"
