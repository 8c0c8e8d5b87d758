"""embed: run a fleet of workers until the open part of the queue is drained."""

from __future__ import annotations

import json
from typing import Any

from ragops.campaign.context import Effect, StepContext
from ragops.playbook.model import Source
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import is_dead_here
from ragops.postgres.queue import MAX_PHASE, ItemStatus, Queue
from ragops.workers.fleet import Fleet, FleetResult, Progress
from ragops.workers.sizing import size_fleet
from ragops.workers.sources import source_root

SUMMED = ("completed", "failed", "chunks", "tokens", "embedded", "reused", "seconds")


def run(context: StepContext, *, phase: int | None = None, until: int | None = None) -> Effect:
    """Embed what is open: up to a campaign's `phase`, or until so many documents are completed.

    Raises Interrupted after a stop, and whatever ended a worker.
    """
    effect = drain(context, phase=phase, until=until)
    context.record(effect)
    return effect


def drain(context: StepContext, *, phase: int | None = None, until: int | None = None) -> Effect:
    """The same without a record in the ledger."""
    queue = Queue(context.connection, context.playbook.tables)
    if context.ledger is not None and phase is not None:
        context.ledger.set_phase(phase)
    queue.reap(is_dead=is_dead_here)
    use_queue_source(context, queue)
    total = dict.fromkeys(SUMMED, 0)
    while True:
        last_id = queue.bound_for(until=until) if until is not None else None
        if until is not None and last_id is None:
            break
        if not sum(queue.open_items(phase=queue.gate(), last_id=last_id)):
            break
        result = _run_fleet(context, queue, last_id)
        _add(total, result)
        if until is None or not result.failed:
            # With `until`, failed items leave room for as many others behind the bound.
            break
    return _effect(total, queue.counts())


def use_queue_source(context: StepContext, queue: Queue) -> None:
    """Take the source that the queue was filled from, unless its folder is not on this machine."""
    stored = queue.load_source()
    if stored is None:
        return
    source = Source.model_validate_json(json.dumps(stored))
    root = source_root(source)
    if root is not None and not root.is_dir() and context.playbook.source.is_named:
        context.info_once(f"{root} is not on this machine: reading the playbook's source instead")
        return
    context.playbook = context.playbook.model_copy(update={"source": source})


def _run_fleet(context: StepContext, queue: Queue, last_id: Any) -> FleetResult:
    shape = size_fleet(context.playbook)
    # Free memory is another one each time.
    context.info_once(str(shape), about=f"{shape.workers} × {shape.threads}, {shape.tokens_per_batch}")
    if shape.note:
        context.info_once(shape.note)
    phase = queue.gate()
    goal = sum(queue.open_items(phase=phase, last_id=last_id))
    fleet = Fleet(
        context.target,
        context.playbook,
        context.tables(),
        sizing=shape,
        stop=context.stop,
        last_id=last_id,
        open_items=goal,
        command=context.embedder_command,
        heartbeat=lambda connection: _heartbeat(context, connection),
    )

    def show(progress: Progress) -> None:
        note = f"{progress.failed:,} failed" if progress.failed else ""
        context.reporter.progress("embedding", progress.seen, goal, note)

    try:
        return fleet.run(progress=show, info=context.reporter.info)
    finally:
        context.reporter.end_progress()


def _heartbeat(context: StepContext, connection: Connection) -> None:
    if context.ledger is not None:
        context.ledger.on(connection).renew()


def _add(total: dict[str, Any], result: FleetResult) -> None:
    for name in SUMMED:
        total[name] += getattr(result, name)


def _effect(total: dict[str, Any], counts: dict[str, int]) -> Effect:
    seconds = total["seconds"]
    return {
        **total,
        "docs_per_s": total["completed"] / seconds if seconds else None,
        "queue": counts,
        "pending": counts[ItemStatus.PENDING],
    }


def closed_gate(context: StepContext) -> str | None:
    """Why pending items may not be claimed: an unfinished campaign's gate is closed. None when it is open."""
    queue = Queue(context.connection, context.playbook.tables)
    pending = queue.counts()[ItemStatus.PENDING]
    gate = queue.gate()
    is_open = any(queue.open_items(phase=gate))
    if pending == 0 or gate == MAX_PHASE or is_open:
        return None
    return f"{pending:,} items lie behind the gate of an unfinished campaign; next: ragops reset --resume"
