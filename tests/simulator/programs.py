"""The programs of simulated processes: the real commands, from a playbook to their outcome."""

from __future__ import annotations

from dataclasses import replace

from ragops.campaign import run as campaign
from ragops.campaign.steps import embed as embedding
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.reseed_queue import ReseedQueueStep
from ragops.campaign.undo import undo
from ragops.campaign.waiting import wait_for_holder
from ragops.errors import RagopsError, first_line
from ragops.playbook import Playbook
from ragops.playbook.model import Model, Source, Workers
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue, Validate
from ragops.postgres.connection import DATABASE_ERRORS, connect
from ragops.postgres.ledger import check_free, find_latest_campaign
from ragops.session import Session
from simulator.oracle import Filling
from simulator.processes import Process, current_process
from simulator.world import GATES, Violation, World

LEASE_S = 120.0


def make_playbook(world: World, *, source: str, pooling: str) -> Playbook:
    """Return the playbook of a campaign over a corpus, with two gates."""
    first, second = GATES
    return Playbook(
        version=1,
        name="simulated",
        model=Model.model_validate({"pooling": pooling}),
        source=Source(folder=world.corpora[source]),
        steps=(
            EmptyTables(step="empty_tables"),
            ReseedQueue(step="reseed_queue"),
            Embed(step="embed", until=first),
            Validate(step="validate", after=first),
            Embed(step="embed", until=second),
            Validate(step="validate", after=second),
            Embed(step="embed"),
            Validate(step="validate"),
        ),
        workers=Workers(count=1, threads=1, lease_s=int(LEASE_S), cache_mib=0),
    )


def filling_of(world: World, playbook: Playbook) -> Filling:
    """Return what a campaign with this playbook fills the queue with."""
    source = next(name for name, folder in world.corpora.items() if folder == playbook.source.folder)
    return Filling(source, playbook.gates())


# What the commands do.


def program(process: Process) -> None:
    """Run a command to its end, as the command line does; its errors are its outcome."""
    world = process.world
    session: Session | None = None
    try:
        with connect(world.target) as connection:
            session = replace(
                Session.on(connection, world.target, process.playbook, stop=process.stop), trust_stored=True
            )
            process.outcome = _COMMANDS[process.kind](session) or "done"
    except (RagopsError, *DATABASE_ERRORS) as error:
        process.outcome = f"{type(error).__name__}: {first_line(error)}"
    finally:
        if session is not None:
            session.database.close()


def _reset(session: Session) -> str:
    campaign.refuse_unfinished(session)
    plan = campaign.plan_campaign(session)
    campaign.refuse_unfinished(session)
    return campaign.start(session, plan).status


def _reset_new(session: Session) -> str:
    campaign.refuse_held(session)
    plan = campaign.plan_campaign(session)
    campaign.give_up_unfinished(session)
    return campaign.start(session, plan).status


def _wait(session: Session) -> str:
    def sleep(seconds: float) -> None:
        session.stop.requested.wait(seconds)

    finished = wait_for_holder(session, sleep=sleep)
    return f"{finished.status} elsewhere" if finished else _resume(session)


def _resume(session: Session) -> str:
    return campaign.resume(session, confirm=lambda changes: None).status


def _embed(session: Session) -> str:
    result = embedding.drain(SingleCommand(session))
    return f"embedded {result.completed}"


def _undo(session: Session) -> str:
    try:
        result = undo(session)
    except RagopsError as refusal:
        process = current_process()
        try:
            process.world.oracle.judge_refused_undo(process, refusal)
        except Violation as violation:
            process.world.violation = process.world.violation or violation
        raise
    return "undone before" if result.was_undone else f"undone {result.campaign}"


def _reseed(session: Session) -> str:
    _refuse_held(session)
    result = ReseedQueueStep(ReseedQueue(step="reseed_queue")).run(SingleCommand(session))
    return f"{result.seeded} seeded"


def _retry(session: Session) -> str:
    _refuse_held(session)
    return f"{session.queue.retry_failed()} retried"


def _refuse_held(session: Session) -> None:
    """Raise CampaignHeld beside a controller, as every command does that writes and is no worker."""
    row = find_latest_campaign(session.connection, session.playbook.tables)
    if row is not None and not row.is_finished:
        check_free(row)


_COMMANDS = {
    "reset": _reset,
    "new": _reset_new,
    "resume": _resume,
    "wait": _wait,
    "embed": _embed,
    "undo": _undo,
    "reseed": _reseed,
    "retry": _retry,
}
