"""Sources of documents: list their locations, read them, cut their texts. A failure concerns one item only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ragops.documents.chunking import Chunk, Chunker, CountTokens
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import Extracted, extract, extract_text
from ragops.documents.manifest import read_manifest
from ragops.documents.opening import open_document
from ragops.documents.sources import walk_folder
from ragops.errors import UsageError
from ragops.playbook.model import Playbook, Source
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.queue import Item
from ragops.postgres.row_source import RowTexts, count_rows, iterate_ids


class Documents:
    """Read the texts behind the queue's locations, whether they are files or rows."""

    def __init__(self, source: Source) -> None:
        """Raise UsageError if the playbook names no source."""
        require_source(source)
        self._rows = RowTexts(source) if source.table or source.query else None
        self._root = source_root(source)

    @property
    def are_rows(self) -> bool:
        """Whether texts come from the database, not from files."""
        return self._rows is not None

    def fetch(self, connection: Connection, items: Sequence[Item]) -> dict[str, str | None]:
        """Return the texts of items that are rows, by location; nothing for files."""
        return self._rows.fetch(connection, [item.location for item in items]) if self._rows else {}

    def extract(self, item: Item, texts: Mapping[str, str | None]) -> Extracted | Unreadable:
        """Return the item's text, out of `texts` or from its file, or the reason why it has none."""
        try:
            if self._root is not None:
                with open_document(self._root, item.location) as opened:
                    return extract(opened, self._root / item.location)
            if item.location not in texts:
                raise Unreadable("no such row in the source", where=item.location)
            # NULL is reported like an empty text.
            return extract_text(texts[item.location] or "")
        except Unreadable as failure:
            return failure


def require_source(source: Source) -> None:
    """Raise UsageError if the playbook names no source."""
    if not source.is_named:
        raise UsageError(
            "the playbook names no source of documents",
            where="source",
            expected="source.folder, source.table, source.query or source.manifest",
            hint="RAGOPS_CORPUS=FOLDER ragops …   or set source: in your playbook",
        )


def source_root(source: Source) -> Path | None:
    """Return the folder that locations are relative to; None for rows."""
    if source.folder is not None:
        return source.folder
    if source.manifest is not None:
        return source.root or source.manifest.parent
    return None


def locations_of(source: Source, connect: Callable[[], Connection]) -> Iterator[str]:
    """Yield all locations in a stable order; `connect` is called only if the source is a table or a query."""
    require_source(source)
    if source.folder is not None:
        yield from walk_folder(source.folder, source.patterns)
    elif source.manifest is not None:
        yield from read_manifest(source.manifest)
    else:
        # A second connection: the queue's is busy with the COPY that these rows go into.
        with connect() as connection, transaction(connection, is_long=True):
            yield from iterate_ids(connection, source)


def count_locations(source: Source, connection: Connection) -> int:
    """Count the documents that the source has now, within the server where they are rows."""
    require_source(source)
    if source.table is not None or source.query is not None:
        return count_rows(connection, source)
    return sum(1 for _ in locations_of(source, lambda: connection))


class Preparer:
    """Cut texts for one model, plain text and Markdown each at its natural boundaries."""

    def __init__(self, playbook: Playbook, *, max_tokens: int, count_tokens: CountTokens) -> None:
        self.max_tokens = min(max_tokens, playbook.chunking.max_tokens or max_tokens)
        self.prefix = playbook.model.document_prefix
        # Both at once: a prefix that leaves no room for text is refused now, not by the first Markdown file.
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
        """Return False for a text that is certainly too long for one chunk."""
        return self._chunkers[False].may_fit(text)

    def chunk(self, text: str, *, markdown: bool) -> tuple[Chunk, ...]:
        """Cut a text. Raises Unreadable if it cannot be cut to fit."""
        return tuple(self._chunkers[markdown].chunk(text))
