"""From claimed items to chunked texts: reading, extracting, cutting. Every failure is one item's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragops.documents.chunking import Chunk, Chunker
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted, extract_file, extract_text
from ragops.documents.manifest import read_manifest
from ragops.documents.sources import open_regular, walk_folder
from ragops.embedder.client import TokenIds
from ragops.errors import UsageError
from ragops.playbook.model import Playbook, Source
from ragops.postgres.connection import Connection
from ragops.postgres.queue import Item
from ragops.postgres.row_source import RowTexts, iterate_ids

CountTokens = Callable[[list[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item whose text is ready to be embedded."""

    item: Item
    extracted: Extracted
    chunks: tuple[Chunk, ...]
    ids: tuple[TokenIds, ...] = ()
    """The token ids of each chunk, with prefix and separators."""

    @property
    def tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.chunks)


class Documents:
    """The texts behind the queue's locations, whatever the playbook's source is."""

    def __init__(self, source: Source) -> None:
        """Raises UsageError when the playbook names no source."""
        require_source(source)
        self._rows = RowTexts(source) if source.table or source.query else None
        self._root = source_root(source)

    @property
    def are_rows(self) -> bool:
        """Texts come from the database, not from files."""
        return self._rows is not None

    def fetch(self, connection: Connection, items: Sequence[Item]) -> dict[str, str | None]:
        """The texts of items that are rows, by location; nothing for files."""
        return self._rows.fetch(connection, [item.location for item in items]) if self._rows else {}

    def extract(self, item: Item, texts: Mapping[str, str | None]) -> Extracted | Unreadable:
        """The item's text, from what was fetched or from its file, or the reason why it has none."""
        try:
            if self._root is not None:
                return extract_file(open_regular(self._root, item.location))
            if item.location not in texts:
                raise Unreadable("the row is gone", where=item.location)
            return extract_text(texts[item.location] or "")
        except Unreadable as failure:
            return failure


def require_source(source: Source) -> None:
    if not source.is_named:
        raise UsageError(
            "no source of documents is named",
            where="source",
            expected="source.folder, source.table, source.query or source.manifest",
            hint="RAGOPS_CORPUS=FOLDER ragops …   or set source: in your playbook",
        )


def source_root(source: Source) -> Path | None:
    """The folder that locations are relative to; None for rows."""
    if source.folder is not None:
        return source.folder
    if source.manifest is not None:
        return source.root or source.manifest.parent
    return None


def locations_of(source: Source, connect: Callable[[], Connection]) -> Iterator[str]:
    """All locations, streamed in a stable order; `connect` is asked only where the source is rows."""
    require_source(source)
    if source.folder is not None:
        yield from walk_folder(source.folder, source.patterns)
    elif source.manifest is not None:
        yield from read_manifest(source.manifest)
    else:
        # Its own connection: the queue's is busy with the COPY that these rows go into.
        with connect() as connection, connection.transaction():
            yield from iterate_ids(connection, source)


def count_locations(source: Source, connect: Callable[[], Connection]) -> int:
    """How many documents the source has now."""
    return sum(1 for _ in locations_of(source, connect))


class Preparer:
    """Cuts texts for one model: plain text and Markdown at their own boundaries."""

    def __init__(self, playbook: Playbook, *, max_tokens: int, count_tokens: CountTokens) -> None:
        self.max_tokens = min(max_tokens, playbook.chunking.max_tokens or max_tokens)
        self.prefix = playbook.model.document_prefix
        self._chunkers = {
            markdown: Chunker(
                count_tokens=count_tokens,
                max_tokens=self.max_tokens,
                overlap_tokens=playbook.chunking.overlap_tokens,
                prefix=self.prefix,
                markdown=markdown,
            )
            for markdown in (False, True)
        }

    def may_fit(self, text: str) -> bool:
        """False for a text that is certainly too long for one chunk."""
        return self._chunkers[False].may_fit(text)

    def chunk(self, text: str, *, markdown: bool) -> tuple[Chunk, ...]:
        """Raises Unreadable when the text cannot be cut to fit."""
        return tuple(self._chunkers[markdown].chunk(text))
