"""Sources of documents: list their locations, read them, cut their texts. A failure concerns one item only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from ragops.documents.blank import is_blank
from ragops.documents.chunking import Chunk, Chunker
from ragops.documents.errors import CheckStop, Missing, Unreadable, never_stopped
from ragops.documents.extraction import MAX_BYTES, Extracted, extract, extract_text
from ragops.documents.labels import Labels
from ragops.documents.left_out import IsStorable, LeftOut
from ragops.documents.locations import refusal
from ragops.documents.manifest import read_manifest
from ragops.documents.opening import open_document
from ragops.documents.os_errors import corpus_outage
from ragops.documents.reading import Reading
from ragops.documents.states import FileChange, FileState
from ragops.documents.walking import walk_folder
from ragops.errors import PlanRefused, UsageError
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook, Source
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.queue import Item
from ragops.postgres.row_relation import target_of
from ragops.postgres.row_source import Row, RowTexts, count_rows, iterate_ids
from ragops.postgres.row_texts import TargetTexts
from ragops.postgres.row_work import ROW_EMPTY, ROW_GONE, RowWork


class Documents:
    """Read the texts behind the queue's locations, whether they are files or rows."""

    def __init__(
        self, source: Source, *, work: RowWork | None = None, check_stop: CheckStop = never_stopped
    ) -> None:
        """`work` are the rows that stay, instead of a source; `check_stop` raises Stopped to end a long reading.

        Raises UsageError if no source is named.
        """
        if work is None:
            require_source(source)
        self._check_stop = check_stop
        self._stay = work is not None
        self._targets = work.targets if work is not None else ()
        self._rows: RowTexts | TargetTexts | None = None
        if work is not None:
            self._rows = TargetTexts(work)
        elif source.table or source.query:
            self._rows = RowTexts(source)
        self._root = source_root(source)
        self._reading = reading_of(source)
        self._labels = Labels(source.encoding)
        self._refuses_partial = source.incomplete == "fail"
        self._refuses_changed = source.changed == "fail"
        self.notices_changes = self._root is not None and source.changed != "ignore"
        """Whether files are compared with how they were when they were queued."""
        self._follow_links = source.follow_links and source.folder is not None
        self.name = str(self._root) if self._root is not None else source.table or "source.query"
        if work is not None:
            self.name = ", ".join(facts.table.quoted for facts in work.facts)
        """The folder, table or query that the texts come from."""

    @property
    def are_rows(self) -> bool:
        """Whether texts come from the database, not from files."""
        return self._rows is not None

    def fetch(
        self, connection: Connection, items: Sequence[Item], *, most_bytes: int = MAX_BYTES
    ) -> dict[str, Row]:
        """Return items that are rows, by location, without the texts of more than `most_bytes`; none for files."""
        if self._rows is None:
            return {}
        return self._rows.fetch(connection, [item.location for item in items], most_bytes=most_bytes)

    def file_size(self, location: str) -> int:
        """Return the bytes of a file; 0 if it cannot be looked at, which `extract` reports."""
        assert self._root is not None, "a row has its size with it"
        if refusal(location) is not None:
            return 0
        try:
            return (self._root / location).stat().st_size
        except (OSError, ValueError):
            return 0

    def extract(
        self, item: Item, rows: Mapping[str, Row], states: Mapping[str, FileState] | None = None
    ) -> Extracted | Unreadable:
        """Return the item's text, out of `rows` or from its file, or the reason why it has none.


        `states` are those that the files had when they were queued, None if nobody has kept them.
        Raises RagopsError if the file system or this machine is at fault, and Stopped.
        """
        self._check_stop()
        try:
            if self._root is not None:
                with open_document(self._root, item.location, follow_links=self._follow_links) as opened:
                    change = None if states is None else _change(opened, states.get(item.location))
                    if change is not None and change.before is not None and self._refuses_changed:
                        raise Unreadable(str(change), where=item.location)
                    path = self._root / item.location
                    reading = replace(self._reading, encoding=self._labels.of(item.location))
                    extracted = extract(opened, path, reading=reading, check_stop=self._check_stop)
                return self._accepted(replace(extracted, change=change) if change else extracted)
            row = rows.get(item.location)
            if self._stay:
                return self._extract_staying(row, item.location)
            if row is None:
                raise Missing("no such row in the source", where=item.location)
            if row.size > MAX_BYTES:
                raise Unreadable(f"text larger than {MAX_BYTES} bytes", where=item.location)
            # NULL is reported like an empty text.
            return extract_text(row.text or "")
        except Unreadable as failure:
            return _with_visible_spaces(failure, item.location)
        except OSError as error:
            assert self._root is not None, "a row is not read from a file system"
            raise corpus_outage(error, folder=self._root, location=item.location) from error

    def _extract_staying(self, row: Row | None, location: str) -> Extracted | Unreadable:
        """Return the text of a row that stays. That it is gone, or lost its text, is no fault of anybody."""
        if row is None:
            return Unreadable(ROW_GONE)
        if row.size > MAX_BYTES:
            return Unreadable(f"text larger than {MAX_BYTES} bytes")
        if is_blank(row.text or ""):
            return Unreadable(ROW_EMPTY)
        target = self._targets[target_of(location) - 1]
        return extract_text(row.text or "", version=row.version, long_text=target.long_text)

    def _accepted(self, extracted: Extracted) -> Extracted:
        """Return the text. Raises Unreadable for one that is not whole, if the source says so."""
        if extracted.partial is not None and self._refuses_partial:
            raise Unreadable(f"incomplete: {extracted.partial}")
        return extracted

    def first_existing(self, connection: Connection, locations: Sequence[str]) -> str | None:
        """Return the first of these documents that is there now, readable or not. Raises as `extract`."""
        if self._rows is not None:
            found = self._rows.fetch(connection, locations, most_bytes=0) if locations else {}
            return next((location for location in locations if location in found), None)
        return next(filter(self._is_file_there, locations), None)

    def _is_file_there(self, location: str) -> bool:
        assert self._root is not None
        if refusal(location) is not None:  # its spelling was refused, nothing was looked for
            return False
        try:
            open_document(self._root, location, follow_links=self._follow_links).close()
        except Missing:
            return False
        except Unreadable:
            return True
        except OSError as error:
            raise corpus_outage(error, folder=self._root, location=location) from error
        return True


def _change(opened: BinaryIO, before: FileState | None) -> FileChange | None:
    """Return how an opened file differs from when it was queued; None if it does not."""
    now = FileState.of(os.fstat(opened.fileno()))
    return None if now == before else FileChange(now, before)


def _with_visible_spaces(failure: Unreadable, location: str) -> Unreadable:
    """Return the failure, with a word about spaces at the end of a name: nobody sees them in a reason."""
    name = location.rpartition("/")[2]
    if name == name.rstrip():
        return failure
    return type(failure)(f"{failure.reason} (the name ends with a space: {name!r})", where=location)


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


def reading_of(source: Source) -> Reading:
    """Return how the files of a source are read."""
    return Reading(text_suffixes=source.text_suffixes)


def locations_of(
    source: Source,
    connect: Callable[[], Connection],
    *,
    left_out: LeftOut | None = None,
    is_storable: IsStorable | None = None,
) -> Iterator[str]:
    """Yield all locations in a stable order; `connect` is called only if the source is a table or a query.

    What cannot be taken is noted in `left_out`. `is_storable` tells what the queue's column does not take.
    Raises PlanRefused at the end if something was left out that the playbook does not allow to leave out.
    """
    require_source(source)
    noted = LeftOut() if left_out is None else left_out
    if source.folder is not None:
        yield from walk_folder(
            source.folder,
            source.include,
            source.exclude,
            follow_links=source.follow_links,
            hidden=source.hidden,
            left_out=noted,
            is_storable=is_storable,
        )
        if source.unreadable == "refuse" and noted.is_problem:
            raise PlanRefused(
                "a part of the corpus cannot be taken; nothing was queued",
                where=str(source.folder),
                problems=[PlanProblem(line) for line in noted.lines()],
                expected="a folder that can be read whole, as source.unreadable: refuse asks for",
                hint=noted.cure,
            )
    elif source.manifest is not None:
        yield from read_manifest(source.manifest, left_out=noted, is_storable=is_storable)
    else:
        # A second connection: the queue's is busy with the COPY that these rows go into.
        with connect() as connection, transaction(connection, is_long=True):
            yield from iterate_ids(connection, source)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a source has now."""

    documents: int
    left_out: LeftOut
    """Files and folders that cannot be taken."""


def count_locations(source: Source, connection: Connection, *, is_storable: IsStorable | None = None) -> Counted:
    """Count the documents that the source has now, within the server where they are rows.

    Raises as `locations_of`.
    """
    require_source(source)
    left_out = LeftOut()
    if source.table is not None or source.query is not None:
        return Counted(count_rows(connection, source), left_out)
    found = locations_of(source, lambda: connection, left_out=left_out, is_storable=is_storable)
    return Counted(sum(1 for _ in found), left_out)


class CountSuffixed(Protocol):
    """Count the tokens of texts, each followed by a suffix: `Embedder.count_tokens`."""

    def __call__(self, texts: Sequence[str], *, suffix: str) -> list[int]: ...


class Preparer:
    """Cut texts for one model, plain text and Markdown each at its natural boundaries."""

    def __init__(
        self,
        playbook: Playbook,
        *,
        max_tokens: int,
        count_tokens: CountSuffixed,
        check_stop: CheckStop = never_stopped,
    ) -> None:
        self.max_tokens = min(max_tokens, playbook.chunking.max_tokens or max_tokens)
        self.prefix = playbook.model.document_prefix
        self.suffix = playbook.model.document_suffix
        # Both at once: a prefix that leaves no room for text is refused now, not by the first Markdown file.
        self._chunkers = {
            markdown: Chunker(
                count_tokens=lambda texts: count_tokens(texts, suffix=self.suffix),
                max_tokens=self.max_tokens,
                overlap_tokens=playbook.chunking.overlap_tokens,
                prefix=self.prefix,
                markdown=markdown,
                check_stop=check_stop,
            )
            for markdown in (False, True)
        }

    def may_fit(self, text: str) -> bool:
        """Return False for a text that is certainly too long for one chunk."""
        return self._chunkers[False].may_fit(text)

    def chunk(self, text: str, *, markdown: bool) -> tuple[Chunk, ...]:
        """Cut a text. Raises Unreadable if it cannot be cut to fit, Stopped if a stop was requested."""
        return tuple(self._chunkers[markdown].chunk(text))
