"""Commands `ragops reset`, `ragops undo`, `ragops demo`: whole campaigns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

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
    TrustStored,
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
from ragops.errors import CampaignHeld, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ragops.campaign.plan import Plan
    from ragops.playbook.model import Playbook
    from ragops.postgres.ledger import CampaignRow
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
    trust_stored: TrustStored = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="With --resume: wait while another controller works, then take over."),
    ] = False,
    max_failed_share: Annotated[
        float | None,
        typer.Option(
            "--max-failed-share",
            help="With --resume: the largest share of failed items that the gates accept from now on.",
            metavar="0…1",
        ),
    ] = None,
    max_partial_share: Annotated[
        float | None,
        typer.Option(
            "--max-partial-share",
            help="With --resume: the largest share of partial documents that the gates accept from now on.",
            metavar="0…1",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            help="With --resume: failed or pending items whose location matches do not count; repeatable.",
            metavar="PATTERN",
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss",
            help="With --resume: the largest loss that the step compare accepts from now on.",
            metavar="0…1",
        ),
    ] = None,
    compare_sample: Annotated[
        int | None,
        typer.Option(
            "--compare-sample", min=1, help="With --resume: the number of queries that the step compare asks."
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run the campaign of a playbook: every step, with gates; it can be resumed, and taken back.

    Example: ragops reset --playbook realign.yaml --dry-run
    """
    from dataclasses import replace

    from ragops.campaign import run as campaign
    from ragops.campaign.answers import NO_ANSWERS, Answers
    from ragops.campaign.waiting import finished_elsewhere
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
                expected="--resume alone, or with --workers, --threads, --batch-size, --no-cache, --force, "
                "--max-failed-share, --max-partial-share, --exclude, --max-loss, --compare-sample",
                hint="ragops reset --resume   or, to give that campaign up: ragops reset --new",
            )
    if trust_stored and not resume:
        raise UsageError("--trust-stored is for --resume", hint="ragops reset --resume --trust-stored")
    answers = Answers(max_failed_share, max_partial_share, tuple(exclude or ()), max_loss, compare_sample)
    if answers != NO_ANSWERS and not resume:
        raise UsageError(
            "--max-failed-share, --max-partial-share, --exclude, --max-loss and --compare-sample are for --resume",
            expected="a campaign that is resumed; a new one takes the playbook's validation: and source:",
            hint="ragops reset --resume …   or change the playbook",
        )
    if wait and not resume:
        raise UsageError("--wait is for --resume", hint="ragops reset --resume --wait")
    while resume:
        ended = _wait(playbook, dsn) if wait else None
        with open_session(playbook, dsn, changes=changes) as session:
            session = replace(session, trust_stored=trust_stored)
            try:
                if ended is not None:
                    session.reporter.info(f"campaign {ended.id} is done: another controller has finished it")
                    result = finished_elsewhere(session, ended)
                else:
                    result = campaign.resume(
                        session,
                        workers=changes["workers"],
                        force=force,
                        confirm=_confirm_changes(session, yes=yes),
                        answers=answers,
                        confirm_exclusions=_confirm_exclusions(yes=yes),
                    )
            except CampaignHeld:
                if not wait:
                    raise
                # Others wait as well, and one of them was faster.
                continue
            emit(result, as_json=as_json, screen=campaign_screen)
            return
    # Without a playbook a new campaign is realign's, unless one over rows would be hidden, or given up, for it.
    with open_session(playbook, dsn, changes=changes, adopts="always" if new else "unfinished") as session:
        if no_archive:
            session = session.with_playbook(without_archive(session.playbook))
        if accept_lost_column:
            session = session.with_playbook(with_lost_columns(session.playbook, accept_lost_column))
        # Before the plan, which would wait for the tables that a running campaign has locked.
        if new:
            session.through_outages(lambda: campaign.refuse_held(session))
        elif not dry_run:
            session.through_outages(lambda: campaign.refuse_unfinished(session))
        plan = session.through_outages(lambda: prepare_plan(session))
        if dry_run:
            emit(plan, as_json=as_json, screen=plan_screen)
            return
        if not new:
            session.through_outages(lambda: campaign.refuse_unfinished(session))
        _confirm_plan(session, plan, yes=yes)
        if new:
            session.through_outages(lambda: campaign.give_up_unfinished(session))
        emit(campaign.start(session, plan, force=force), as_json=as_json, screen=campaign_screen)


def _wait(playbook: str, dsn: str | None) -> CampaignRow | None:
    """Wait for a controller that holds the campaign; return the campaign if that controller finished it."""
    from ragops.campaign.waiting import wait_for_holder

    # In a session of its own: its connection and what it has read would be hours old afterwards.
    with open_session(playbook, dsn) as session:
        return wait_for_holder(session)


def prepare_plan(session: Session) -> Plan:
    """Plan with the model's dimensions and the size of the source; a wrong model or an empty source fails here."""
    from ragops.campaign.judgments import read_judgments
    from ragops.campaign.run import plan_campaign
    from ragops.campaign.seeding import location_test
    from ragops.campaign.steps.reseed_queue import empty_corpus
    from ragops.embedder.config import checked_sha256, probe_model
    from ragops.fingerprint.queries import refuse_unfitting
    from ragops.workers.sources import count_locations, require_source

    verbs = {step.step for step in session.playbook.steps}
    if "reseed_queue" in verbs:
        require_source(session.playbook.source)
    model = None
    for step in session.playbook.steps:
        if step.step == "compare" and step.judgments is not None:
            # A wrong file would be found after everything was embedded.
            read_judgments(step.judgments)
    if verbs & {"embed", "validate", "verify_build"}:
        checked_sha256(session.playbook)
        playbook = session.playbook
        model = probe_model(playbook, look=lambda embedder: refuse_unfitting(embedder, playbook))
    items = left_out = None
    source = session.playbook.source
    # Rows are counted where the plan looks at their ids, too.
    if "reseed_queue" in verbs and not (source.table or source.query):
        counted = count_locations(source, session.connection, is_storable=location_test(session))
        items, left_out = counted.documents, counted.left_out
        if items == 0:
            # Known only after the tables have been emptied, it would cost them.
            raise empty_corpus(source, left_out)
    return plan_campaign(session, model=model, items=items, left_out=left_out)


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
    from ragops.report.campaign import plan_screen
    from ragops.report.terminal import err

    err().print(plan_screen(plan))
    confirm(f"This empties {wiped:,} rows of {session.target.label}.", answer=plan.database, yes=yes)


def _confirm_changes(session: Session, *, yes: bool) -> Callable[[Sequence[str]], None]:
    """Return what asks about a campaign that would empty more now than was confirmed when it started."""
    from ragops.campaign.run import refuse_changes

    def ask(changes: Sequence[str]) -> None:
        # --yes confirms what was shown. This was not: nobody has seen these numbers.
        if yes or sys.stdin is None or not sys.stdin.isatty():
            refuse_changes(changes)
        listed = "\n".join(changes)
        database = session.connection.info.dbname
        confirm(
            f"The campaign would empty more of {session.target.label} than was confirmed:\n{listed}",
            answer=database,
            yes=False,
        )

    return ask


def _confirm_exclusions(*, yes: bool) -> Callable[[Sequence[str]], None]:
    """Return what asks about documents that the campaign goes on without."""

    def ask(exclusions: Sequence[str]) -> None:
        listed = "\n".join(f"  {line}" for line in exclusions)
        confirm(
            f"The campaign would go on without these, and no gate would count them:\n{listed}\n"
            "(back again: ragops queue retry --excluded)",
            answer="exclude",
            yes=yes,
        )

    return ask


def undo(
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    campaign: Annotated[
        int | None,
        typer.Option(
            "--campaign", min=1, help="An earlier campaign; those after it must be undone.", show_default=False
        ),
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option(
            "--generation",
            min=1,
            help="The rows of one emptying (`ragops archive status`), also those that an undo removed.",
            show_default=False,
        ),
    ] = None,
    no_archive: Annotated[
        bool, typer.Option("--no-archive", help="Keep no copy of the rows that are stored now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come back; change nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Bring back the rows and vectors that the last campaign archived, and the indexes that it dropped.

    Run again, it finishes an undo that was interrupted, and changes nothing after one that was not.

    Example: ragops undo --dsn postgresql://rag@localhost/rag
    """
    from ragops.campaign.undo import last_undo
    from ragops.campaign.undo import undo as undo_campaign
    from ragops.campaign.undoable import find_undoable
    from ragops.report.campaign import undo_screen

    if campaign is not None and generation is not None:
        raise UsageError("--campaign and --generation exclude each other", hint="ragops archive status")
    if dry_run:
        with open_session(playbook, dsn) as session:
            found = find_undoable(session, campaign=campaign, generation=generation)
        emit(found, as_json=as_json, screen=lambda undoable: f"this {undoable.describe()}")
        return
    with write_session(playbook, dsn, needs_tables=False) as session:
        targets = session.playbook.targets
        if targets and all(target.write == "beside" for target in targets):
            _undo_beside(session, yes=yes, as_json=as_json)
            return
        last = last_undo(session, campaign)
        undoable = find_undoable(session, campaign=campaign, generation=generation)
        needs_answer = not undoable.is_done and undoable.unfinished is None
        confirm(f"This {undoable.describe()}", answer="undo", yes=yes or not needs_answer)
        result = session.through_outages(
            lambda: undo_campaign(
                session, campaign=campaign, generation=generation, archive=not no_archive, last=last
            )
        )
    emit(result, as_json=as_json, screen=undo_screen)


def _undo_beside(session: Session, *, yes: bool, as_json: bool) -> None:
    """Drop the second columns of a campaign that has not come to its cutover, or was rolled back."""
    from ragops.campaign.cutover.ending import find_droppable, undo_beside
    from ragops.campaign.steps.base import SingleCommand
    from ragops.report.cutover import end_screen

    found = session.through_outages(lambda: find_droppable(session))
    listed = ", ".join(f"{one.table.quoted}.{one.target.filled_column}" for one in found)
    confirm(f"This drops {listed} with the triggers that note writes.", answer="undo", yes=yes)
    emit(undo_beside(SingleCommand(session), found), as_json=as_json, screen=end_screen)


def demo(
    docs: Annotated[int, typer.Option("--docs", min=20, help="Documents of the corpus.")] = 1500,
    model: ModelFile = None,
    workers: WorkerCount = None,
    story: Annotated[
        Literal["incident", "reembed"],
        typer.Option("--story", help="incident: tables are emptied. reembed: the application goes on answering."),
    ] = "incident",
    as_json: AsJson = False,
) -> None:
    """Reproduce and fix the incident on the embedded server.

    Example: ragops demo --docs 500
    """
    from ragops.demo.reembed import run_reembed_story
    from ragops.demo.run import run_demo
    from ragops.report.console import console_reporter
    from ragops.report.demo import demo_screen, reembed_screen

    reporter = console_reporter()
    with stoppable(reporter) as stop:
        if story == "reembed":
            told = run_reembed_story(
                start_embedded(), reporter=reporter, stop=stop, documents=docs, model=model, workers=workers
            )
            emit(told, as_json=as_json, screen=reembed_screen)
            return
        result = run_demo(
            start_embedded(), reporter=reporter, stop=stop, documents=docs, model=model, workers=workers
        )
    emit(result, as_json=as_json, screen=demo_screen)
