"""reseed_queue: stream the source's locations into the queue, with the phases that make gates exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ragops.campaign.context import Effect, StepContext
from ragops.errors import RagopsError
from ragops.playbook.model import Source
from ragops.postgres.queue import Queue, seed_statement
from ragops.postgres.row_source import check_source, source_relation
from ragops.workers.sources import locations_of

REPORT_EVERY = 1000


def run(context: StepContext, *, append: bool = False) -> Effect:
    """Fill the queue in one transaction. Raises RagopsError for an empty source or a filled queue."""
    source = context.playbook.source
    if _are_rows(source):
        check_source(context.connection, source)
    queue = Queue(context.connection, context.playbook.tables)
    gates = context.playbook.gates()
    if append:
        refuse_other_source(context, queue)
    with context.fenced(is_long=True):
        seeded = _append(context, queue) if append else _seed(context, queue)
        if seeded == 0 and not append:
            raise empty_corpus(source)
        queue.save_source(_absolute(source).model_dump(mode="json"))
        effect: Effect = {"seeded": seeded, "gates": list(gates)}
        context.record(effect)
    context.reporter.end_progress()
    # Behind the commit: the items count, whether or not their statistics came to be.
    queue.analyze()
    return effect


def _are_rows(source: Source) -> bool:
    return bool(source.table or source.query)


def _seed(context: StepContext, queue: Queue) -> int:
    source, gates, tables = context.playbook.source, context.playbook.gates(), context.playbook.tables
    if _are_rows(source):
        # Rows of the same database need no way through the client.
        return queue.seed_rows(seed_statement(tables, relation=source_relation(source), gates=gates))
    return queue.seed(seed_statement(tables, relation=None, gates=gates), _locations(context), gates=gates)


def _append(context: StepContext, queue: Queue) -> int:
    source, phase = context.playbook.source, len(context.playbook.gates()) + 1
    if _are_rows(source):
        return queue.append_rows(source_relation(source), phase=phase)
    return queue.append(_locations(context), phase=phase)


def _locations(context: StepContext) -> Iterator[str]:
    return _counted(locations_of(context.playbook.source, context.connect), context)


SOURCE_IDENTITY = ("folder", "table", "query", "manifest", "root", "id_column", "text_column")


def other_source(context: StepContext, queue: Queue) -> str | None:
    """What the queue was filled from, when that is not the playbook's source; None when it is, or unknown."""
    stored = queue.load_source()
    new = _absolute(context.playbook.source).model_dump(mode="json")
    if stored is None or all(stored.get(key) == new[key] for key in SOURCE_IDENTITY):
        return None
    return next((str(stored[kind]) for kind in SOURCE_IDENTITY[:4] if stored.get(kind)), "another source")


def refuse_other_source(context: StepContext, queue: Queue) -> None:
    """Raise RagopsError while items of another source are open: their locations would lose their meaning."""
    other = other_source(context, queue)
    if other is not None and any(queue.open_items()):
        raise RagopsError(
            "the queue still has open items of another source; nothing was queued",
            actual=f"open items from {other}",
            hint="ragops embed   first, then reseed with --append again",
        )


def _absolute(source: Source) -> Source:
    """With absolute paths: whoever embeds later may stand in another folder."""
    paths = {name: getattr(source, name) for name in ("folder", "manifest", "root")}
    return source.model_copy(update={name: path.absolute() for name, path in paths.items() if path is not None})


def empty_corpus(source: Source) -> RagopsError:
    """The error for a source without a single document."""
    return RagopsError(
        "the corpus is empty; nothing was queued",
        where=str(source.folder or source.manifest or source.table or "source.query"),
        actual="no document" + (f" matching {', '.join(source.patterns)}" if source.folder else ""),
        hint="check source: in the playbook (patterns, path), then: ragops queue reseed",
    )


def _counted(locations: Iterable[str], context: StepContext) -> Iterator[str]:
    for number, location in enumerate(locations, start=1):
        if number % REPORT_EVERY == 0:
            context.reporter.progress("queueing", number, None)
        yield location
