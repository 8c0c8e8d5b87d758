"""embed: run a fleet of workers until the open part of the queue is drained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ragops.campaign.answers import answer_lines
from ragops.campaign.measure import read_recorded
from ragops.campaign.privileges import QUEUE, privilege_problems
from ragops.campaign.rows import work_of
from ragops.campaign.steps.base import FAILED_GATE, PlanFacts, PlannedStep, Run
from ragops.campaign.steps.reseed_queue import absolute_source, other_source
from ragops.campaign.trust import trusted_source
from ragops.documents.os_errors import is_folder
from ragops.facts import vector_dimensions
from ragops.findings import PlanProblem
from ragops.fingerprint.batches import Batches
from ragops.identity import is_dead_here
from ragops.indexes.plan import VECTOR_TABLES
from ragops.playbook.model import Playbook, Source
from ragops.playbook.steps import Embed
from ragops.postgres.catalog import read_database
from ragops.postgres.file_states import ChangedFiles, changed_files
from ragops.postgres.filling import Filling
from ragops.postgres.ledger import find_latest_campaign
from ragops.postgres.locks import analyze_if_free
from ragops.postgres.measured import STRANGE_SCRIPT
from ragops.postgres.queue import MAX_PHASE, Cursor, ItemStatus, Queue
from ragops.postgres.row_work import RowWork
from ragops.session import Session
from ragops.workers.fleet import Fleet, FleetResult, Progress
from ragops.workers.sizing import size_fleet
from ragops.workers.sources import source_root


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What one or more fleets did, and the queue afterwards. Times in seconds."""

    queue: Mapping[str, int]
    """Items by status."""
    completed: int = 0
    failed: int = 0
    chunks: int = 0
    tokens: int = 0
    embedded: int = 0
    """Distinct texts that a child embedded."""
    reused: int = 0
    """Chunks whose text was known already."""
    seconds: float = 0.0
    changed: ChangedFiles = field(default_factory=ChangedFiles)
    """Files of the filling that were embedded in another state than they were queued in."""
    batches: Batches | None = None
    """What the last fleet measured, and the batches that it chose; None without a fleet."""

    @property
    def docs_per_s(self) -> float | None:
        return self.completed / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, object]:
        return {
            "completed": self.completed,
            "failed": self.failed,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "embedded": self.embedded,
            "reused": self.reused,
            "seconds": self.seconds,
            "docs_per_s": self.docs_per_s,
            "queue": dict(self.queue),
            "pending": self.queue[ItemStatus.PENDING],
            "changed": self.changed.to_json(),
            "batches": self.batches.to_json() if self.batches else None,
        }


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What `ragops embed` reports: the result, and why pending items may not be claimed (None: they may)."""

    result: EmbedResult
    gate: str | None

    def to_json(self) -> dict[str, object]:
        return {**self.result.to_json(), "gate": self.gate}


@dataclass(frozen=True, slots=True)
class EmbedStep:
    settings: Embed

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from privilege_problems(facts.database, QUEUE, "UPDATE")
        for logical in facts.database.tables:
            if logical != QUEUE:
                yield from privilege_problems(facts.database, logical, "INSERT", "COPY")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        until, items = self.settings.until, facts.items
        # The items between the gate before and this one; unknown while the source's size is.
        before = max((gate for gate in facts.playbook.gates() if until is None or gate < until), default=0)
        end = until if items is None else min(until or items, items)
        rows = None if end is None else max(0, end - before)
        rate = facts.database.docs_per_s
        workers = facts.sizing.workers if facts.sizing else 1
        notes = [] if facts.sizing is None else [str(facts.sizing), *filter(None, [facts.sizing.note])]
        if rows != 0 and not rate:
            notes.append("time unknown: no batch of this database has been measured yet")
        if until and items is not None and items < until:
            notes.append(f"the source has {items:,} documents, fewer than the gate of {until:,}")
        return PlannedStep(
            number,
            self.settings.step,
            f"embed the first {until:,} items" if until else "embed the rest",
            self.settings,
            rows=rows,
            tables=tuple(t.qualified for t in facts.database.tables.values() if t),
            estimate_s=rows / (rate * workers) if rows and rate else None,
            phase=phase_of(facts.playbook, until),
            notes=tuple(notes),
        )

    def run(self, run: Run) -> EmbedResult:
        """Open the step's phase and embed it. Raises Interrupted after a stop, and whatever ended a worker."""
        phase = phase_of(run.session.playbook, self.settings.until)
        with run.transaction():
            # An earlier controller that wakes up is told before it starts a child.
            pass
        result = drain(run, phase=phase)
        # Without an item to embed no fleet has opened it.
        run.session.through_outages(lambda: run.open_phase(phase))
        # Not the whole step again: it would find nothing to do, and record that.
        run.session.through_outages(lambda: run.record(result))
        return result


def phase_of(playbook: Playbook, until: int | None) -> int:
    """Return the last phase that an embed step opens: gate k ends phase k."""
    return playbook.gates().index(until) + 1 if until else MAX_PHASE


def drain(run: Run, *, until: int | None = None, phase: int | None = None) -> EmbedResult:
    """Embed what is open, or until `until` documents are completed; record nothing.

    `phase` is the last one that the campaign opens, once its fleet has joined the filling: another fleet, perhaps
    with another model, must not embed the first item of a campaign.
    """
    again = run.session.through_outages
    # Read at once: what is claimed later belongs to this source, or is not claimed.
    filling = again(lambda: run.session.queue.filling())
    session = again(lambda: with_source_of(run.session, filling))
    work = again(lambda: work_of(run.session, filling))
    again(lambda: session.queue.reap(is_dead=is_dead_here))
    results: list[FleetResult] = []
    while True:
        bound = again(lambda: session.queue.bound_for(until=until)) if until is not None else None
        if until is not None and bound is None:
            break
        goal = again(partial(_open_items, session, bound, phase))
        if not goal:
            break
        result, generation = _run_fleet(run, session, filling.generation, bound, goal, phase, work)
        results.append(result)
        filling = replace(filling, generation=generation)
        if until is None or not results[-1].failed:
            # With `until`, each failed item leaves room for another one behind the bound.
            break
    if any(result.completed for result in results):
        again(lambda: _analyze_loaded(session))
        _say_measured(session)
    changed = again(lambda: changed_files(session.connection, session.playbook.tables))
    if changed.count:
        more = ", …" if changed.count > len(changed.first) else ""
        session.reporter.info_once(
            f"{changed.count:,} files changed after they were queued, and were embedded as they are now: "
            f"{', '.join(changed.first)}{more}"
        )
    return EmbedResult(
        changed=changed,
        queue=again(lambda: session.queue.counts()),
        completed=sum(result.completed for result in results),
        failed=sum(result.failed for result in results),
        chunks=sum(result.chunks for result in results),
        tokens=sum(result.tokens for result in results),
        embedded=sum(result.embedded for result in results),
        reused=sum(result.reused for result in results),
        seconds=sum(result.seconds for result in results),
        batches=results[-1].batches if results else None,
    )


def _say_measured(session: Session) -> None:
    """Say how many documents lack text, and whether the model knows their script."""
    recorded = read_recorded(session, limit=0)
    if recorded is not None and recorded.partial:
        session.reporter.info(f"{recorded.partial:,} stored documents lack text; which: ragops queue status")
    if recorded is not None and not recorded.knows_script:
        session.reporter.warning(f"{STRANGE_SCRIPT} ({recorded.words})")


def with_source_of(session: Session, filling: Filling) -> Session:
    """Return the session with the source that the queue was filled from, unless its folder is missing here.

    Raises PlanRefused if the database alone vouches for that source.
    """
    if filling.source is None or session.playbook.targets:
        return session
    if session.playbook.source.is_named and other_source(session) is None:
        # The same documents. How they are read is the playbook's to say: a retry after a changed key must see it.
        source = absolute_source(session.playbook.source)
        return session.with_playbook(session.playbook.model_copy(update={"source": source}))
    source = Source.model_validate_json(json.dumps(filling.source))
    root = source_root(source)
    if root is not None and not is_folder(root) and session.playbook.source.is_named:
        session.reporter.info_once(f"{root} is not on this machine: reading the playbook's source instead")
        return session
    source = trusted_source(session, source)
    return session.with_playbook(session.playbook.model_copy(update={"source": source}))


def _open_items(session: Session, bound: Cursor | None, phase: int | None) -> int:
    """Return the number of items that may be claimed, or are in process; up to `phase` if it is given."""
    queue = session.queue
    return sum(queue.open_items(phase=queue.gate() if phase is None else phase, bound=bound))


def _analyze_loaded(session: Session) -> None:
    """Analyze the vector tables once the queue is drained: their statistics are those of empty tables."""
    if any(session.queue.open_items()):
        return
    loaded = [session.tables().get(logical) for logical in VECTOR_TABLES]
    for table in [*loaded, *(one.table for one in session.targets())]:
        if table is not None and not analyze_if_free(session.connection, table):
            session.reporter.info(f"{table.qualified} is locked: autovacuum analyzes it later")


def bytes_to_embed(session: Session) -> int | None:
    """Return about how many bytes the open items will take, from those that are stored.

    Before the first one is stored: at least a vector of the document and one of a chunk, 4 bytes per dimension and
    8 each (https://github.com/pgvector/pgvector#vector-type); None if the dimensions are unknown.
    """
    with session.connect() as own:
        queue, tables = Queue(own, session.playbook.tables), read_database(own, session.playbook.tables).tables
        completed = queue.counts()[ItemStatus.COMPLETED]
        stored = sum(table.bytes for logical, table in tables.items() if table and logical != QUEUE)
        is_open = sum(queue.open_items())
        if completed:
            return is_open * stored // completed
        if session.playbook.targets:
            return None
        mapped = session.playbook.tables.columns_of("documents").get("embedding")
        documents = tables.get("documents")
        dimensions = vector_dimensions(documents, mapped) if documents and mapped else None
        return None if dimensions is None else is_open * 2 * (4 * dimensions + 8)


def _run_fleet(
    run: Run,
    session: Session,
    generation: int,
    bound: Cursor | None,
    goal: int,
    phase: int | None,
    work: RowWork | None,
) -> tuple[FleetResult, int]:
    """Return what the fleet did, and the generation of the filling that it claimed from."""
    sizing, reporter = size_fleet(session.playbook), session.reporter
    # Free memory varies between calls, so it is not part of the key.
    reporter.info_once(str(sizing), about=f"{sizing.workers} × {sizing.threads}, {sizing.tokens_per_batch}")
    if sizing.note:
        reporter.info_once(sizing.note)
    fleet = Fleet(
        session.target,
        session.playbook,
        session.through_outages(session.tables),
        sizing=sizing,
        stop=session.stop,
        generation=generation,
        bound=bound,
        open_items=goal,
        command=session.embedder_command,
        heartbeat=run.renew,
        is_campaign=run.campaign is not None,
        opening=lambda: None if phase is None else session.through_outages(lambda: run.open_phase(phase)),
        bytes_needed=lambda: bytes_to_embed(session),
        work=work,
    )

    def show(progress: Progress) -> None:
        note = f"{progress.failed:,} failed" if progress.failed else ""
        reporter.progress("embedding", progress.seen, goal, note)

    try:
        return fleet.run(progress=show, info=reporter.info), fleet.generation
    finally:
        reporter.end_progress()


def closed_gate(session: Session) -> str | None:
    """Return why pending items may not be claimed: a campaign's gate is closed. None when it is open."""
    queue = session.queue
    pending = queue.counts()[ItemStatus.PENDING]
    gate = queue.gate()
    is_open = any(queue.open_items(phase=gate))
    if pending == 0 or gate == MAX_PHASE or is_open:
        return None
    campaign = find_latest_campaign(session.connection, session.playbook.tables)
    if campaign is not None and campaign.status == "gate_failed":
        return (
            f"{pending:,} items lie behind the gate of campaign {campaign.id}, which failed; next: "
            f"{answer_lines(campaign.error) or FAILED_GATE}"
        )
    return f"{pending:,} items lie behind the gate of an unfinished campaign; next: ragops reset --resume"
