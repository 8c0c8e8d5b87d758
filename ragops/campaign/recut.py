"""Cut stored documents again as embedding cut them, where their chunks are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ragops.documents.formats import is_markdown
from ragops.embedder.client import Embedder
from ragops.postgres.connection import UNREADABLE
from ragops.session import Session
from ragops.workers.cutting import Cutting
from ragops.workers.sources import Preparer

# What of the settings decides vectors in the mean, not only where texts are divided.
_SPACE = "prefix"


@dataclass(frozen=True)
class Recut:
    """The cutting that the queue's filling recorded; the playbook's where nothing was recorded."""

    session: Session
    embedder: Embedder
    cutting: Cutting
    own: Cutting
    """The playbook's."""

    @classmethod
    def of(cls, session: Session, embedder: Embedder) -> Recut:
        own = Cutting.of(session.playbook, embedder.model)
        return cls(session, embedder, _recorded(session) or own, own)

    @property
    def prefix(self) -> str:
        """What every text begins with when it is embedded."""
        return self.own.prefix or "" if self.cutting.prefix is None else self.cutting.prefix

    @property
    def changed(self) -> tuple[str, ...]:
        """What the playbook changes of how texts are cut: they are compared as they were cut."""
        found = self.cutting.differences(self.own)
        return tuple(
            f"{name} {before!r}, now {now!r}" for name, before, now in found if name not in (_SPACE, "kind")
        )

    @property
    def changed_prefix(self) -> tuple[str, str] | None:
        """The prefix that was embedded and the playbook's, where they differ."""
        found = (pair for name, *pair in self.cutting.differences(self.own) if name == _SPACE)
        return next(((str(before), str(now)) for before, now in found), None)

    def chunks(self, text: str, path: str | None) -> list[str]:
        """Return a document's chunks."""
        return self._cut(text, markdown=self._is_markdown(path))

    def other_chunks(self, text: str, path: str | None) -> list[str] | None:
        """Return its chunks if it is of the other kind than its name tells; None if they are the same."""
        is_markdown = self._is_markdown(path)
        other = self._cut(text, markdown=not is_markdown)
        return None if other == self._cut(text, markdown=is_markdown) else other

    def _is_markdown(self, path: str | None) -> bool:
        return self.cutting.kind != "plain" and path is not None and is_markdown(path)

    def _cut(self, text: str, *, markdown: bool) -> list[str]:
        return [chunk.text for chunk in self._preparer.chunk(text, markdown=markdown)]

    @cached_property
    def _preparer(self) -> Preparer:
        return Preparer(
            self.cutting.within(self.session.playbook),
            max_tokens=self.cutting.max_tokens,
            count_tokens=self.embedder.count_tokens,
        )


def _recorded(session: Session) -> Cutting | None:
    """Return what the present filling recorded; None where ragops' tables cannot be read."""
    try:
        return Cutting.parse(session.through_outages(lambda: session.queue.filling()).chunking)
    except UNREADABLE:
        return None
