"""Commands `ragops reset`, `ragops undo`, `ragops demo`: whole campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.options import (
    DEFAULT_PLAYBOOK,
    AsJson,
    BatchSize,
    Dsn,
    ModelFile,
    NoCache,
    PlaybookName,
    ThreadCount,
    WorkerCount,
    Yes,
)
from ragops.cli.session import (
    confirm,
    demo_defaults,
    emit,
    open_session,
    overrides,
    start_embedded,
    stoppable,
    write_session,
)
from ragops.errors import UsageError

if TYPE_CHECKING:
    from ragops.campaign.plan import Plan
    from ragops.playbook.model import Playbook
    from ragops.session import Session


def register(app: typer.Typer) -> None:
    app.command("reset")(reset)
    app.command("undo")(undo)
    app.command("demo")(demo)


def reset(
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the ledger stopped.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Give up an unfinished campaign and start over.")] = False,
    no_archive: Annotated[
        bool, typer.Option("--no-archive", help="Empty the tables for good: no copy, no undo of rows.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Reset although the stored vectors already agree with the workers.")
    ] = False,
    accept_lost_column: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-lost-column",
            help="Column whose values may be gone, e.g. documents.tenant_id; repeatable.",
            metavar="TABLE.COLUMN",
        ),
    ] = None,
    workers: WorkerCount = None,
    threads: ThreadCount = None,
    batch_size: BatchSize = None,
    no_cache: NoCache = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole campaign: verify, drop, empty, reseed, embed, validate at the gate, index, validate.

    Example: ragops reset --playbook realign.yaml --dry-run
    """
    from ragops.campaign import run as campaign
    from ragops.report.campaign import campaign_screen, plan_screen

    changes = overrides(workers=workers, threads=threads, batch_size=batch_size, no_cache=no_cache)
    if resume:
        # A campaign goes on with the playbook it was started with: an option that would be ignored is refused.
        refused = {
            "--new": new,
            "--dry-run": dry_run,
            "--no-archive": no_archive,
            "--accept-lost-column": bool(accept_lost_column),
        }
        given = [name for name, is_given in refused.items() if is_given]
        if given:
            raise UsageError(
                f"--resume goes on with the campaign as it was planned; it does not take {' and '.join(given)}",
                actual=" ".join(given),
                expected="--resume alone, or with --workers, --threads, --batch-size, --no-cache, --force",
                hint="ragops reset --resume   or, to give that campaign up: ragops reset --new",
            )
    with open_session(playbook, dsn, changes=changes) as session:
        if resume:
            result = campaign.resume(session, workers=changes["workers"], force=force)
            emit(result, as_json=as_json, screen=campaign_screen)
            return
        if no_archive:
            session = session.with_playbook(without_archive(session.playbook))
        if accept_lost_column:
            session = session.with_playbook(with_lost_columns(session.playbook, accept_lost_column))
        plan = prepare_plan(session)
        if dry_run:
            emit(plan, as_json=as_json, screen=plan_screen)
            return
        if not new:
            campaign.refuse_unfinished(session)
        _confirm_plan(session, plan, yes=yes)
        if new:
            campaign.give_up_unfinished(session)
        emit(campaign.start(session, plan, force=force), as_json=as_json, screen=campaign_screen)


def prepare_plan(session: Session) -> Plan:
    """Plan with the model's dimensions and the size of the source; a wrong model or an empty source fails here."""
    from ragops.campaign.run import plan_campaign
    from ragops.campaign.steps.reseed_queue import empty_corpus
    from ragops.embedder.config import checked_sha256, probe_model
    from ragops.workers.sources import count_locations, require_source

    verbs = {step.step for step in session.playbook.steps}
    if "reseed_queue" in verbs:
        require_source(session.playbook.source)
    model = None
    if verbs & {"embed", "validate", "verify_build"}:
        checked_sha256(session.playbook)
        model = probe_model(session.playbook)
    items = count_locations(session.playbook.source, session.connect) if "reseed_queue" in verbs else None
    if items == 0:
        # Known only after the tables have been emptied, it would cost them.
        raise empty_corpus(session.playbook.source)
    return plan_campaign(session, model=model, items=items)


def without_archive(playbook: Playbook) -> Playbook:
    """Return the playbook with `archive: false` in every step that archives."""
    steps = tuple(
        step.model_copy(update={"archive": False}) if step.step == "empty_tables" else step
        for step in playbook.steps
    )
    return playbook.model_copy(update={"steps": steps})


def with_lost_columns(playbook: Playbook, columns: Sequence[str]) -> Playbook:
    """Return the playbook whose steps that empty tables accept that the values of these columns are gone."""
    steps = tuple(
        step.model_copy(update={"accept_lost_columns": (*step.accept_lost_columns, *columns)})
        if step.step == "empty_tables"
        else step
        for step in playbook.steps
    )
    return playbook.model_copy(update={"steps": steps})


def _confirm_plan(session: Session, plan: Plan, *, yes: bool) -> None:
    """Ask before rows are wiped; the demo's own database, if archived, needs no question."""
    emptying = [step for step in plan.steps if step.verb == "empty_tables"]
    wiped = sum(step.rows or 0 for step in emptying)
    is_archived = all(getattr(step.settings, "archive", True) for step in emptying)
    is_demo = session.target.is_embedded and bool(demo_defaults()) and is_archived
    if yes or wiped == 0 or is_demo:
        return
    from rich.console import Console

    from ragops.report.campaign import plan_screen

    Console(stderr=True).print(plan_screen(plan))
    confirm(f"This empties {wiped:,} rows of {session.target.label}.", answer=plan.database, yes=yes)


def undo(
    playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Bring back the rows that the last campaign archived and the indexes that it dropped.

    Example: ragops undo --dsn postgresql://rag@localhost/rag
    """
    from ragops.campaign.undo import find_undoable
    from ragops.campaign.undo import undo as undo_campaign
    from ragops.report.campaign import undo_screen

    with write_session(playbook, dsn) as session:
        confirm(f"This {find_undoable(session).describe()}.", answer="undo", yes=yes)
        result = undo_campaign(session)
    emit(result, as_json=as_json, screen=undo_screen)


def demo(
    docs: Annotated[int, typer.Option("--docs", min=20, help="Documents of the corpus.")] = 1500,
    model: ModelFile = None,
    workers: WorkerCount = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce and fix the incident on the embedded server.

    Example: ragops demo --docs 500
    """
    from ragops.demo.run import run_demo
    from ragops.report.console import console_reporter
    from ragops.report.demo import demo_screen

    reporter = console_reporter()
    with stoppable(reporter) as stop:
        result = run_demo(
            start_embedded(), reporter=reporter, stop=stop, documents=docs, model=model, workers=workers
        )
    emit(result, as_json=as_json, screen=demo_screen)
