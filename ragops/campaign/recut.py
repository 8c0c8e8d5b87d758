"""Cut stored documents again as embedding cut them, where their chunks are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ragops.documents.formats import is_markdown
from ragops.embedder.client import Embedder
from ragops.playbook.model import Model
from ragops.postgres.connection import NOT_RECORDED
from ragops.session import Session
from ragops.workers.cutting import Cutting
from ragops.workers.sources import Preparer

# What is embedded with each text: not only where texts are divided.
_AFFIXES = {"prefix": "document_prefix", "suffix": "document_suffix"}


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
    def model(self) -> Model:
        """The playbook's model, with the prefix and suffix that were embedded with each text."""
        return self.cutting.within(self.session.playbook).model

    @property
    def changed(self) -> tuple[str, ...]:
        """What the playbook changes of how texts are cut: they are compared as they were cut."""
        found = self.cutting.differences(self.own)
        return tuple(
            f"{name} {before!r}, now {now!r}" for name, before, now in found if name not in (*_AFFIXES, "kind")
        )

    @property
    def changed_affixes(self) -> tuple[tuple[str, str, str], ...]:
        """Prefix and suffix where they differ: the setting, what was embedded, and the playbook's."""
        found = self.cutting.differences(self.own)
        return tuple((_AFFIXES[name], str(before), str(now)) for name, before, now in found if name in _AFFIXES)

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
    """Return what the present filling recorded; None where ragops' tables are missing or cannot be read."""
    try:
        return Cutting.parse(session.through_outages(lambda: session.queue.filling()).chunking)
    except NOT_RECORDED:
        return None
