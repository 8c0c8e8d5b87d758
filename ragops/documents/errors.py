"""The failure of one document: it fails that item with its reason, never the campaign."""

from __future__ import annotations

from collections.abc import Callable

from ragops.errors import RagopsError

# Called again and again while a document is read and cut; raises Stopped to end that early.
CheckStop = Callable[[], None]

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


class Missing(Unreadable):
    """The document does not exist: it alone was deleted, or everything beside it is gone as well."""


class Stopped(Exception):
    """Reading or cutting a document ended early, because a stop was requested; the document is not at fault."""


def never_stopped() -> None:
    """Let a document be read and cut to its end."""


def _storable(text: str) -> str:
    """Return the text as one bounded line that PostgreSQL can store."""
    one_line = " ".join(text.replace("\0", "\\0").split())
    encodable = one_line.encode("utf-8", "backslashreplace").decode("utf-8")
    return encodable if len(encodable) <= LONGEST_REASON else encodable[: LONGEST_REASON - 1] + "…"
