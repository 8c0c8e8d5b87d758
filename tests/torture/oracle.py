"""The oracle: what a campaign left behind, compared with what an undisturbed run of the same corpus leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torture.state import (
    TABLES,
    Admin,
    Document,
    State,
    Vectors,
    checksum,
    checksums,
    distances,
    query,
    read_indexes,
    read_state,
    value,
)

NEAR = 1e-6
FINISHED = ("done", "abandoned", "undone")
# A breach of a gate is written down by the server itself, in the transaction that completes the item.
WATCH_GATES = """
CREATE SCHEMA IF NOT EXISTS torture;
CREATE TABLE IF NOT EXISTS torture.breach (item bigint, phase int, gate int, campaign bigint);
CREATE OR REPLACE FUNCTION torture.watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO torture.breach
    SELECT NEW.id, NEW.phase, c.phase, c.id FROM ragops.campaign c
     WHERE c.id = (SELECT max(id) FROM ragops.campaign) AND c.status NOT IN ('done', 'abandoned', 'undone')
       AND NEW.phase > c.phase;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER torture_watch AFTER UPDATE OF status ON files_queue FOR EACH ROW
  WHEN (NEW.status = 'completed' AND OLD.status <> 'completed') EXECUTE FUNCTION torture.watch();
"""


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    """lost, doubled, mixed, unexpected, vector, queue, ledger, lease, gate, index, archive, undo, secret."""
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What an undisturbed run of a corpus stored."""

    state: State
    by_path: Mapping[str, Document] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> Reference:
        return cls(state, {document.path: document for document in state.documents})


@dataclass(frozen=True, slots=True)
class Before:
    """What a database held before a campaign: what its archive and an undo of it must hold again."""

    sums: Mapping[str, tuple[int, int]]
    indexes: tuple[str, ...]
    campaign: int
    """The newest campaign then; 0 for none."""

    @classmethod
    def of(cls, connection: Admin) -> Before:
        known = value(connection, "SELECT to_regclass('ragops.campaign') IS NOT NULL")
        newest = value(connection, "SELECT coalesce(max(id), 0) FROM ragops.campaign") if known else 0
        return cls(checksums(connection), read_indexes(connection), newest)


def watch_gates(connection: Admin) -> None:
    """Have the server write down every item that is completed behind a closed gate."""
    connection.execute(WATCH_GATES.encode())


def judge(connection: Admin, reference: Reference, before: Before) -> list[Violation]:
    """Everything that is wrong after a campaign that said that it is done."""
    found = read_state(connection)
    return [
        *_documents(found, reference),
        *_vectors(found, reference),
        *_queue(found, reference),
        *_ledger(connection, before),
        *_archive(connection, before),
        *_indexes(found.indexes, before.indexes),
        *_gates(connection),
    ]


def judge_undone(connection: Admin, before: Before, campaign: int) -> list[Violation]:
    """Everything that is wrong after an undo: the rows and indexes must be those from before."""
    violations = [
        Violation("undo", f"{table}: {now} rows and their checksum, before the campaign {before.sums[table]}")
        for table, now in checksums(connection).items()
        if now != before.sums[table]
    ]
    violations += _indexes(read_indexes(connection), before.indexes)
    status = value(connection, f"SELECT status FROM ragops.campaign WHERE id = {campaign}")
    if status != "undone":
        violations.append(Violation("undo", f"campaign {campaign} is {status}"))
    unfinished = value(connection, "SELECT count(*) FROM ragops.undo WHERE finished_at IS NULL")
    if unfinished:
        violations.append(Violation("undo", f"{unfinished} undos are not finished"))
    return violations


def judge_gate(connection: Admin, gate: int) -> list[Violation]:
    """Everything that is wrong while a campaign stands before a gate of so many items, all of them stored."""
    stored = value(connection, "SELECT count(*) FROM documents")
    completed = value(connection, "SELECT count(*) FROM files_queue WHERE status = 'completed'")
    violations = list(_gates(connection))
    if (stored, completed) != (gate, gate):
        violations.append(Violation("gate", f"{stored} documents and {completed} completed items at {gate}"))
    return violations


def _documents(found: State, reference: Reference) -> Iterator[Violation]:
    expected = reference.by_path
    times = Counter(document.path for document in found.documents)
    for path in expected.keys() - times.keys():
        yield Violation("lost", path)
    for path, count in times.items():
        if path not in expected:
            yield Violation("unexpected", f"{path} is no document of this corpus")
        elif count > 1:
            yield Violation("doubled", f"{path} is stored {count} times")
    for document in found.documents:
        wanted = expected.get(document.path)
        if wanted is not None:
            yield from _compare(document, wanted)
    if found.strays:
        yield Violation("unexpected", f"{found.strays} chunks or parsed files belong to no document")
    if found.uncompleted:
        yield Violation("unexpected", f"{found.uncompleted} documents whose item is not completed")
    if found.measured != len(expected):
        yield Violation("unexpected", f"ingestion_metrics counts {found.measured} of {len(expected)} documents")


def _compare(document: Document, wanted: Document) -> Iterator[Violation]:
    if document.text != wanted.text:
        yield Violation("mixed", f"{document.path} holds another text: {document.text[:40]!r}")
    texts, expected = ([(c.index, c.text) for c in one.chunks] for one in (document, wanted))
    if texts != expected:
        yield Violation("mixed", f"{document.path} has other chunks: {len(texts)} of {len(expected)}")
    if document.parsed != wanted.parsed:
        yield Violation("mixed", f"{document.path} has other rows in parsed_files: {document.parsed}")


def _vectors(found: State, reference: Reference) -> Iterator[Violation]:
    pairs = [(d, reference.by_path[d.path]) for d in found.documents if d.path in reference.by_path]
    rows = [(d.vector, wanted.vector, d.path) for d, wanted in pairs]
    yield from _far(found, reference, rows, of=lambda state: state.vectors)
    chunks = [
        (chunk.vector, other.vector, f"{d.path}, chunk {chunk.index}")
        for d, wanted in pairs
        for chunk, other in zip(d.chunks, wanted.chunks, strict=False)
    ]
    yield from _far(found, reference, chunks, of=lambda state: state.chunk_vectors)


def _far(
    found: State, reference: Reference, rows: list[tuple[int, int, str]], *, of: Callable[[State], Vectors]
) -> Iterator[Violation]:
    if not rows:
        return
    ours, theirs = of(found), of(reference.state)
    apart = distances(ours[[row[0] for row in rows]], theirs[[row[1] for row in rows]])
    for (_, _, name), distance in zip(rows, apart, strict=True):
        if not distance <= NEAR:
            yield Violation("vector", f"{name}: cosine distance {distance:.2g}")


def _queue(found: State, reference: Reference) -> Iterator[Violation]:
    if found.queue != reference.state.queue:
        names = list((Counter(found.queue) - Counter(reference.state.queue)).keys())[:3]
        yield Violation("queue", f"{sum(found.queue.values())} items, others than the corpus: {names}")
    open_items = {status: count for status, count in found.statuses.items() if status != "completed"}
    if open_items != {s: n for s, n in reference.state.statuses.items() if s != "completed"}:
        yield Violation("queue", f"items are not completed: {open_items}")
    if found.held:
        yield Violation("lease", f"{found.held} items have a claim or a lease")


def _ledger(connection: Admin, before: Before) -> Iterator[Violation]:
    rows = query(connection, "SELECT id, status, holder, lease_until FROM ragops.campaign ORDER BY id")
    for id, status, holder, lease in rows:
        if status not in FINISHED:
            yield Violation("ledger", f"campaign {id} is {status}")
        if holder is not None or lease is not None:
            yield Violation("lease", f"campaign {id} is held by {holder} until {lease}")
    if value(connection, "SELECT to_regclass('ragops.lease') IS NOT NULL"):
        for campaign, holder in query(connection, "SELECT campaign_id, holder FROM ragops.lease"):
            yield Violation("lease", f"{holder} has a lease of campaign {campaign}")
    new = [row for row in rows if row[0] > before.campaign]
    if not new or new[-1][1] != "done":
        yield Violation("ledger", f"the campaign is {new[-1][1] if new else 'not there'}, and not done")
        return
    steps = query(
        connection,
        f"SELECT number, verb, status FROM ragops.step WHERE campaign_id = {new[-1][0]} AND status <> 'done'",
    )
    for number, verb, status in steps:
        yield Violation("ledger", f"step {number} ({verb}) is {status}")
    verdicts = query(
        connection,
        f"SELECT number, effect->>'verdict' FROM ragops.step WHERE campaign_id = {new[-1][0]}"
        " AND verb = 'validate' AND effect->>'verdict' IS DISTINCT FROM 'pass'",
    )
    for number, verdict in verdicts:
        yield Violation("ledger", f"the validation of step {number} says {verdict}")
    missing = value(connection, "SELECT count(*) FROM ragops.index_definition WHERE restored_at IS NULL")
    if missing:
        yield Violation("ledger", f"{missing} dropped indexes are not recorded as restored")


def _archive(connection: Admin, before: Before) -> Iterator[Violation]:
    """Compare what is archived with what was there; a table that was empty needs no archive."""
    archived: dict[str, str] = dict(
        query(
            connection,
            f"SELECT logical, archive_table FROM ragops.archive WHERE campaign_id > {before.campaign}"
            " AND undo_id IS NULL",
        )
    )
    for table in TABLES:
        rows = before.sums[table]
        name = archived.get(table)
        if name is None:
            if rows[0]:
                yield Violation("archive", f"{table}: no archive of its {rows[0]} rows")
        elif not value(connection, f"SELECT to_regclass('ragops.{name}') IS NOT NULL"):
            yield Violation("archive", f"{table}: {name} is not there")
        elif checksum(connection, f"ragops.{name}") != rows:
            yield Violation("archive", f"{table}: {name} holds other rows than the table did")


def _indexes(found: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[Violation]:
    for name in sorted(set(wanted) - set(found)):
        yield Violation("index", f"missing, or no longer the same: {name}")
    for name in sorted(set(found) - set(wanted)):
        yield Violation("index", f"not there before: {name}")


def _gates(connection: Admin) -> Iterator[Violation]:
    if value(connection, "SELECT to_regclass('torture.breach') IS NULL"):
        return
    for row in query(connection, "SELECT campaign, phase, gate, count(*) FROM torture.breach GROUP BY 1, 2, 3"):
        yield Violation("gate", "campaign {}: phase {} written while the gate was {}, {} items".format(*row))
