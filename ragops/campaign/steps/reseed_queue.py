"""reseed_queue: stream the source's locations into the queue, with the phases that make gates exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragops.campaign.privileges import QUEUE, privilege_problems
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.errors import RagopsError
from ragops.findings import PlanProblem
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.playbook.tables import Tables
from ragops.postgres.queue import seed_statement
from ragops.postgres.row_source import check_source, source_relation
from ragops.postgres.statements import Statement, text_of
from ragops.session import Session
from ragops.workers.sources import locations_of

REPORT_EVERY = 1000
# Two sources with the same values here have the same locations.
SOURCE_IDENTITY = ("folder", "table", "query", "manifest", "root", "id_column", "text_column")


@dataclass(frozen=True, slots=True)
class ReseedResult:
    seeded: int
    gates: tuple[int, ...]
    sql: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {"seeded": self.seeded, "gates": list(self.gates), "sql": list(self.sql)}


@dataclass(frozen=True, slots=True)
class ReseedQueueStep:
    settings: ReseedQueue

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        yield from privilege_problems(facts.database, QUEUE, "INSERT", "COPY")

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        queue, playbook = facts.table(QUEUE), facts.playbook
        return PlannedStep(
            number,
            self.settings.step,
            f"fill {queue.qualified} from the source",
            self.settings,
            statements=(_seeding(playbook.tables, playbook.source, playbook.gates()),)
            if playbook.source.is_named
            else (),
            rows=facts.items,
        )

    def run(self, run: Run) -> ReseedResult:
        """Fill the queue in one transaction. Raises RagopsError for an empty source or a filled queue."""
        session = run.session
        playbook, queue = session.playbook, session.queue
        _check_rows(session)
        with run.transaction(is_long=True):
            statement = _seeding(playbook.tables, playbook.source, playbook.gates())
            if _are_rows(playbook.source):
                # Rows of the same database are inserted within the server, without a way through the client.
                seeded = queue.seed_rows(statement)
            else:
                seeded = queue.seed(statement, _locations(session), gates=playbook.gates())
            if seeded == 0:
                raise empty_corpus(playbook.source)
            queue.save_source(_absolute(playbook.source).model_dump(mode="json"))
            result = ReseedResult(seeded, playbook.gates(), (text_of(statement),))
            run.record(result)
        session.reporter.end_progress()
        # After the commit: the items are safe even if ANALYZE fails.
        queue.analyze()
        return result


def append_source(session: Session) -> ReseedResult:
    """Add the locations that are not in the queue yet, behind every gate.

    Raises RagopsError while items of another source are open.
    """
    playbook, queue = session.playbook, session.queue
    _check_rows(session)
    refuse_other_source(session)
    phase = len(playbook.gates()) + 1
    with session.connection.transaction():
        if _are_rows(playbook.source):
            seeded = queue.append_rows(source_relation(playbook.source), phase=phase)
        else:
            seeded = queue.append(_locations(session), phase=phase)
        queue.save_source(_absolute(playbook.source).model_dump(mode="json"))
    session.reporter.end_progress()
    queue.analyze()
    return ReseedResult(seeded, playbook.gates())


def other_source(session: Session) -> str | None:
    """Return what the queue was filled from, if that is not the playbook's source; None if it is, or unknown."""
    stored = session.queue.load_source()
    new = _absolute(session.playbook.source).model_dump(mode="json")
    if stored is None or all(stored.get(key) == new[key] for key in SOURCE_IDENTITY):
        return None
    return next((str(stored[kind]) for kind in SOURCE_IDENTITY[:4] if stored.get(kind)), "another source")


def refuse_other_source(session: Session) -> None:
    """Raise RagopsError while items of another source are open: their locations would lose their meaning."""
    other = other_source(session)
    if other is not None and any(session.queue.open_items()):
        raise RagopsError(
            "the queue still has open items of another source; nothing was queued",
            actual=f"open items from {other}",
            hint="ragops embed   first, then reseed with --append again",
        )


def empty_corpus(source: Source) -> RagopsError:
    """Return the error for a source without a single document."""
    return RagopsError(
        "the corpus is empty; nothing was queued",
        where=str(source.folder or source.manifest or source.table or "source.query"),
        actual="no document" + (f" matching {', '.join(source.patterns)}" if source.folder else ""),
        hint="check source: in the playbook (patterns, path), then: ragops queue reseed",
    )


def _seeding(tables: Tables, source: Source, gates: Sequence[int]) -> Statement:
    relation = source_relation(source) if _are_rows(source) else None
    return seed_statement(tables, relation=relation, gates=gates)


def _are_rows(source: Source) -> bool:
    return bool(source.table or source.query)


def _check_rows(session: Session) -> None:
    if _are_rows(session.playbook.source):
        check_source(session.connection, session.playbook.source)


def _absolute(source: Source) -> Source:
    """Return the source with absolute paths: whoever embeds later may stand in another folder."""
    paths = {name: getattr(source, name) for name in ("folder", "manifest", "root")}
    return source.model_copy(update={name: path.absolute() for name, path in paths.items() if path is not None})


def _locations(session: Session) -> Iterator[str]:
    locations = locations_of(session.playbook.source, session.connect)
    for number, location in enumerate(locations, start=1):
        if number % REPORT_EVERY == 0:
            session.reporter.progress("queueing", number, None)
        yield location
