"""Commands `ragops cutover run · rollback · finish · status`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.options import AsJson, Dsn, NoCache, ThreadCount, TrustStored, WorkerCount, Yes
from ragops.cli.session import confirm, emit, open_session, overrides

if TYPE_CHECKING:
    from ragops.session import Session

app = typer.Typer(
    no_args_is_help=True,
    help="The exchange of a column's vectors for those beside it, and the way back.",
    epilog="Example: ragops cutover status",
)
DEFAULT = "reembed.yaml"
PlaybookName = Annotated[
    str | None,
    typer.Option(
        "--playbook",
        "-p",
        metavar="FILE",
        envvar="RAGOPS_PLAYBOOK",
        help="YAML playbook with targets.",
        show_default="that of the last campaign",
    ),
]


@app.command()
def status(playbook: PlaybookName = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show each second column: state, rows filled and left, writes that wait, indexes, and what is next.

    Example: ragops cutover status
    """
    from ragops.campaign.cutover.status import read_status
    from ragops.report.cutover import status_screen

    with _session(playbook, dsn, writes=False) as session:
        found = session.through_outages(lambda: read_status(session))
    emit(found, as_json=as_json, screen=status_screen)


@app.command()
def run(
    playbook: PlaybookName = None,
    dsn: Dsn = None,
    workers: WorkerCount = None,
    threads: ThreadCount = None,
    no_cache: NoCache = False,
    trust_stored: TrustStored = False,
    as_json: AsJson = False,
) -> None:
    """Exchange the columns: hooks, a last drain, one short transaction; again: embed what was written since.

    Goes on with the campaign that waits for it.

    Example: ragops cutover run
    """
    from ragops.campaign.cutover.command import run_cutover
    from ragops.report.cutover import cut_over_screen

    changes = overrides(workers=workers, threads=threads, no_cache=no_cache)
    with _session(playbook, dsn, changes=changes, trust_stored=trust_stored) as session:
        result = run_cutover(session, workers=changes["workers"])
    emit(result, as_json=as_json, screen=cut_over_screen)


@app.command()
def rollback(
    playbook: PlaybookName = None,
    dsn: Dsn = None,
    trust_stored: TrustStored = False,
    as_json: AsJson = False,
) -> None:
    """Exchange the columns back. No vector is lost; rows that were written since are listed.

    Example: ragops cutover rollback
    """
    from ragops.campaign.cutover.command import LOCK_TIMEOUT_S
    from ragops.campaign.cutover.switching import roll_back
    from ragops.campaign.steps.base import SingleCommand
    from ragops.report.cutover import rollback_screen

    with _session(playbook, dsn, trust_stored=trust_stored) as session:
        result = roll_back(SingleCommand(session), lock_timeout_s=LOCK_TIMEOUT_S)
    emit(result, as_json=as_json, screen=rollback_screen)


@app.command()
def finish(
    playbook: PlaybookName = None,
    dsn: Dsn = None,
    trust_stored: TrustStored = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Drop the old column with its indexes, the triggers and the notes: there is no way back then.

    Example: ragops cutover finish --yes
    """
    from ragops.campaign.cutover.ending import finish as finish_cutover
    from ragops.campaign.cutover.status import read_status
    from ragops.campaign.steps.base import SingleCommand
    from ragops.report.cutover import end_screen

    with _session(playbook, dsn, trust_stored=trust_stored) as session:
        found = session.through_outages(lambda: read_status(session))
        over = [one for one in found.columns if one.state == "cut_over"]
        if over:
            waiting = sum(one.waiting for one in over)
            more = (
                f" {waiting:,} rows were written since the last drain, and keep the vectors that the application "
                "gave them (ragops cutover run embeds them)."
                if waiting
                else ""
            )
            listed = ", ".join(one.other for one in over)
            confirm(f"This drops {listed} in {session.target.label}.{more}", answer="finish", yes=yes)
        result = finish_cutover(SingleCommand(session))
    emit(result, as_json=as_json, screen=end_screen)


@contextmanager
def _session(
    playbook: str | None,
    dsn: str | None,
    *,
    writes: bool = True,
    trust_stored: bool = False,
    changes: dict[str, dict[str, object]] | None = None,
) -> Iterator[Session]:
    """Open a session with the playbook that was named, else with that of the last campaign over rows.

    Raises UsageError for a playbook without a target that is written beside, CampaignHeld while a controller runs.
    """
    from ragops.campaign.cutover.command import prepare

    with open_session(playbook or DEFAULT, dsn, changes=changes) as session:
        session = replace(session, trust_stored=trust_stored)
        yield session.through_outages(lambda: prepare(session, is_named=playbook is not None, writes=writes))
