"""`ragops reset`, `ragops undo`, `ragops demo`: whole campaigns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from ragops.cli.session import confirm, demo_defaults, emit, overrides, session
from ragops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ragops.campaign.context import StepContext
    from ragops.campaign.plan import Plan


def register(app: typer.Typer) -> None:
    app.command("reset")(reset)
    app.command("undo")(undo)
    app.command("demo")(demo)


def reset(
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the ledger says.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Give up an unfinished campaign and start anew.")] = False,
    no_archive: Annotated[
        bool, typer.Option("--no-archive", help="Empty the tables for good: no copy, no undo of rows.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Reset although what is stored agrees with the workers already.")
    ] = False,
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
    from ragops.report.terminal import plan_screen

    changes = overrides(workers=workers, threads=threads, batch_size=batch_size, no_cache=no_cache)
    with session(playbook, dsn, changes=changes, needs_tables=False, needs_ledger=False) as context:
        context.force = force
        if resume:
            if new or dry_run:
                raise UsageError("--resume goes alone", actual="--new" if new else "--dry-run")
            _finish(lambda: campaign.resume(context), context, as_json=as_json)
            return
        if no_archive:
            context.playbook = without_archive(context.playbook)
        plan = planned(context)
        if dry_run:
            emit(campaign.describe(plan), as_json=as_json, screen=plan_screen)
            return
        if not new:
            campaign.refuse_unfinished(context)
        _confirm_plan(context, plan, yes=yes)
        if new:
            campaign.give_up_unfinished(context)
        _finish(lambda: campaign.start(context, plan), context, as_json=as_json)


def _finish(run: Callable[[], dict[str, Any]], context: StepContext, *, as_json: bool) -> None:
    """Run a campaign and show its result; that nothing had to be reset is one, too."""
    from ragops.campaign import run as campaign
    from ragops.errors import NothingToReset
    from ragops.report.terminal import campaign_screen, error_text

    try:
        result = run()
    except NothingToReset as nothing:
        result = {**campaign.summary(context, status="nothing_to_reset", verdict="pass"), **nothing.as_dict()}
        text = error_text(nothing)
        emit(result, as_json=as_json, screen=lambda _: text)
        return
    emit(result, as_json=as_json, screen=campaign_screen)


def planned(context: StepContext) -> Plan:
    """The plan, made with the model's dimensions and the size of the source; a wrong model fails here."""
    from ragops.campaign.run import plan_campaign
    from ragops.campaign.steps.reseed_queue import empty_corpus
    from ragops.workers.sources import count_locations, require_source

    verbs = {step.step for step in context.playbook.steps}
    if "reseed_queue" in verbs:
        require_source(context.playbook.source)
    model = None
    if verbs & {"embed", "validate", "verify_build"}:
        from ragops.campaign.steps.verify_build import probe_model
        from ragops.embedder.config import checked_sha256

        checked_sha256(context.playbook)
        model = probe_model(context.playbook)
    items = count_locations(context.playbook.source, context.connect) if "reseed_queue" in verbs else None
    if items == 0:
        # Known only after the tables have been emptied, it would cost them.
        raise empty_corpus(context.playbook.source)
    return plan_campaign(context, model=model, items=items)


def without_archive(playbook: Any) -> Any:
    """The playbook with `archive: false` in every empty_tables step."""
    steps = tuple(
        step.model_copy(update={"archive": False}) if step.step == "empty_tables" else step
        for step in playbook.steps
    )
    return playbook.model_copy(update={"steps": steps})


def _confirm_plan(context: StepContext, plan: Plan, *, yes: bool) -> None:
    """Ask before rows are wiped; the demo's own database, archived as it is, needs no question."""
    wiped = sum(step.rows or 0 for step in plan.steps if step.verb == "empty_tables")
    is_archived = all(getattr(step.settings, "archive", True) for step in plan.steps)
    is_demo = context.target.is_embedded and bool(demo_defaults()) and is_archived
    if yes or wiped == 0 or is_demo:
        return
    from rich.console import Console

    from ragops.campaign.run import describe
    from ragops.report.terminal import plan_screen

    Console(stderr=True).print(plan_screen(describe(plan)))
    confirm(f"This empties {wiped:,} rows of {context.target.label}.", answer=plan.database, yes=yes)


def undo(
    playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Bring back the rows that the last campaign archived and the indexes that it dropped.

    Example: ragops undo --dsn postgresql://rag@localhost/rag
    """
    from ragops.campaign.undo import undo as undo_campaign
    from ragops.campaign.undo import what_undo_does
    from ragops.report.terminal import table

    with session(playbook, dsn, changes_data=True) as context:
        confirm(f"This {what_undo_does(context)}.", answer="undo", yes=yes)
        result = undo_campaign(context)
    emit(
        result,
        as_json=as_json,
        screen=lambda r: table("restored", "rows", rows=[(t, f"{n:,}") for t, n in r["rows"].items()], right=(1,)),
    )


def demo(
    docs: Annotated[int, typer.Option("--docs", min=20, help="Documents of the corpus.")] = 1500,
    model: ModelFile = None,
    workers: WorkerCount = None,
    as_json: AsJson = False,
) -> None:
    """Tell the incident's story with real parts on the embedded server: broken, found out, realigned.

    Example: ragops demo --docs 500
    """
    from ragops.cli.session import start_embedded, stoppable
    from ragops.demo.run import run_demo
    from ragops.report.console import ConsoleReporter
    from ragops.report.demo import demo_screen

    reporter = ConsoleReporter()
    with stoppable(reporter) as stop:
        result = run_demo(
            start_embedded(), reporter=reporter, stop=stop, documents=docs, model=model, workers=workers
        )
    emit(result, as_json=as_json, screen=demo_screen)
