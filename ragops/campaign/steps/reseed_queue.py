"""reseed_queue: stream the source's locations into the queue, with the phases that make gates exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from ragops.campaign.privileges import QUEUE, privilege_problems
from ragops.campaign.seeding import found_locations, report_left_out, state_log
from ragops.campaign.source_ids import id_problems, location_column
from ragops.campaign.steps.base import PlanFacts, PlannedStep, Run
from ragops.campaign.trust import remember_source
from ragops.documents.left_out import LeftOut
from ragops.errors import PlanRefused, RagopsError
from ragops.findings import PlanProblem
from ragops.playbook.model import Source
from ragops.playbook.steps import ReseedQueue
from ragops.playbook.tables import Tables
from ragops.postgres.connection import transaction
from ragops.postgres.file_states import record_seeding
from ragops.postgres.filling import record_extension, record_filling
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.queue import seed_statement
from ragops.postgres.row_source import pin_text_form, read_source, source_relation
from ragops.postgres.statements import Statement, text_of
from ragops.session import Session

Result = TypeVar("Result")
SLOW_COUNT_S = 30
# Two sources with the same values here have the same locations.
SOURCE_IDENTITY = ("folder", "table", "query", "manifest", "root", "id_column", "text_column")


@dataclass(frozen=True, slots=True)
class ReseedResult:
    seeded: int
    gates: tuple[int, ...]
    sql: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    """What the source has and the queue has not."""

    def to_json(self) -> dict[str, object]:
        return {
            "seeded": self.seeded,
            "gates": list(self.gates),
            "sql": list(self.sql),
            "left_out": self.left_out.to_json(),
        }


@dataclass(frozen=True, slots=True)
class ReseedQueueStep:
    settings: ReseedQueue

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        # UPDATE or more is what the server asks for the lock.
        yield from privilege_problems(facts.database, QUEUE, "INSERT", "UPDATE", "COPY")
        if facts.source is not None:
            yield from id_problems(
                facts.source, facts.playbook.source, location_column(facts.playbook, facts.database)
            )

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        queue, playbook = facts.table(QUEUE), facts.playbook
        return PlannedStep(
            number,
            self.settings.step,
            f"fill {queue.quoted} from the source",
            self.settings,
            statements=(_seeding(playbook.tables, playbook.source, playbook.gates()),)
            if playbook.source.is_named
            else (),
            rows=facts.items,
            notes=tuple(_notes(facts)),
        )

    def run(self, run: Run) -> ReseedResult:
        """Fill the queue in one transaction. Raises RagopsError for an empty source or a filled queue."""
        session = run.session
        playbook, queue = session.playbook, session.queue

        def act() -> ReseedResult:
            with ExitStack() as stack, run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
                _check_rows(session)
                statement = _seeding(playbook.tables, playbook.source, playbook.gates())
                left_out, states = LeftOut(), None
                if _are_rows(playbook.source):
                    # Rows of the same database are inserted within the server, without a way through the client.
                    seeded = queue.seed_rows(statement)
                else:
                    states = state_log(session, stack, is_new=True)
                    found = found_locations(session, left_out)
                    seeded = queue.seed(
                        statement, states.noting(found) if states else found, gates=playbook.gates()
                    )
                if seeded == 0:
                    raise empty_corpus(playbook.source, left_out)
                if _are_rows(playbook.source):
                    _refuse_repeated(session, seeded)
                source = absolute_source(playbook.source)
                record_filling(session.connection, playbook.tables, source.model_dump(mode="json"))
                if states is not None:
                    kept = left_out.to_json()
                    record_seeding(session.connection, playbook.tables, states, left_out=kept, is_new=True)
                result = ReseedResult(seeded, playbook.gates(), (text_of(statement),), left_out)
                run.record(result)
                remember_source(session, source)
            return result

        result = _with_queue_lock(session, act)
        session.reporter.end_progress()
        report_left_out(session, result.left_out)
        # After the commit: the items are safe even if ANALYZE fails.
        queue.analyze()
        return result


def _with_queue_lock(session: Session, act: Callable[[], Result]) -> Result:
    """Run a transaction that locks the queue, again while another one is in its way."""
    queue = session.facts(scans=False).tables[QUEUE]
    tables = [queue] if queue is not None else []
    return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def _refuse_repeated(session: Session, seeded: int) -> None:
    """Raise RagopsError when a location was queued twice: the source has changed since its ids were counted."""
    distinct = session.queue.distinct_locations()
    if distinct != seeded:
        raise RagopsError(
            "the source has changed while it was queued; nothing was queued",
            actual=f"{seeded:,} rows with {distinct:,} different ids",
            hint="stop what writes there, then run the command again",
        )


def append_source(session: Session) -> ReseedResult:
    """Add the locations that are not in the queue yet, behind every gate.

    Raises RagopsError while items of another source are open.
    """
    playbook, queue = session.playbook, session.queue
    refuse_other_source(session)
    phase, source = len(playbook.gates()) + 1, absolute_source(playbook.source)

    def act() -> ReseedResult:
        left_out, states = LeftOut(), None
        with ExitStack() as stack, transaction(session.connection, lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            _check_rows(session)
            if _are_rows(playbook.source):
                queue.receive_rows(source_relation(playbook.source))
            else:
                states = state_log(session, stack, is_new=False)
                found = found_locations(session, left_out)
                queue.receive(states.noting(found) if states else found)
            queue.lock()
            # Again: another command may have filled the queue since.
            refuse_other_source(session)
            seeded = queue.append(phase=phase)
            is_same = queue.load_source() is not None and other_source(session) is None
            document = source.model_dump(mode="json")
            record_extension(session.connection, playbook.tables, document, is_same=is_same)
            if states is not None:
                kept = left_out.to_json()
                record_seeding(session.connection, playbook.tables, states, left_out=kept, is_new=False)
            remember_source(session, source)
        return ReseedResult(seeded, playbook.gates(), left_out=left_out)

    result = _with_queue_lock(session, act)
    session.reporter.end_progress()
    report_left_out(session, result.left_out)
    queue.analyze()
    return result


def other_source(session: Session) -> str | None:
    """Return what the queue was filled from, if that is not the playbook's source; None if it is, or unknown."""
    stored = session.queue.load_source()
    new = absolute_source(session.playbook.source).model_dump(mode="json")
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


def empty_corpus(source: Source, left_out: LeftOut | None = None) -> RagopsError:
    """Return the error for a source without a single document."""
    patterns = ", ".join(source.include) + (f", without {', '.join(source.exclude)}" if source.exclude else "")
    noted = left_out or LeftOut()
    links = f"; {noted.unfollowed:,} symbolic links are not followed" if noted.unfollowed else ""
    return RagopsError(
        "the corpus is empty; nothing was queued",
        where=str(source.folder or source.manifest or source.table or "source.query"),
        actual="no document"
        + (f" matching {patterns}" if source.folder else "")
        + "".join(f"; {line}" for line in noted.lines())
        + links,
        hint="check source: in the playbook (folder, include, exclude"
        + (", follow_links" if links else "")
        + "), then: ragops queue reseed",
    )


def _seeding(tables: Tables, source: Source, gates: Sequence[int]) -> Statement:
    relation = source_relation(source) if _are_rows(source) else None
    return seed_statement(tables, relation=relation, gates=gates)


def _are_rows(source: Source) -> bool:
    return bool(source.table or source.query)


def _check_rows(session: Session) -> None:
    """Raise PlanRefused for ids that are no identity, in the transaction that queues them; pin their text form."""
    source = session.playbook.source
    if not _are_rows(source):
        return
    facts = read_source(session.connection, source, ())
    pin_text_form(session.connection)
    column = location_column(session.playbook, session.facts(scans=False))
    problems = list(id_problems(facts, source, column))
    if problems:
        raise PlanRefused(
            "the ids of the source identify no rows; nothing was queued",
            where=f"source.{'table' if source.table else 'query'}",
            problems=problems,
            hint="fix source: in the playbook, or the rows, then run the command again",
        )


def _notes(facts: PlanFacts) -> Iterator[str]:
    yield from (f"left out: {line}" for line in facts.left_out.lines())
    if facts.playbook.source.query is not None and facts.source is not None:
        yield (
            f"source.query runs again for each claim of documents; one run takes {facts.source.seconds:.1f} s. If "
            "that is slow, materialise it: CREATE TABLE … AS, then source.table"
        )
    elif facts.source is not None and not facts.source.is_unique and facts.source.seconds > SLOW_COUNT_S:
        yield (
            f"comparing {facts.source.rows:,} ids took {facts.source.seconds:.0f} s, and takes it again when the "
            f"queue is filled; with a unique index on {facts.playbook.source.id_column} they are only counted"
        )


def absolute_source(source: Source) -> Source:
    """Return the source with absolute paths: whoever embeds later may stand in another folder."""
    paths = {name: getattr(source, name) for name in ("folder", "manifest", "root")}
    return source.model_copy(update={name: path.absolute() for name, path in paths.items() if path is not None})
