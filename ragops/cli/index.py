"""Commands `ragops index status · drop · rebuild`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import check_names, confirm, emit, look, read_session, write_session
from ragops.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Vector indexes: found in the catalog, journaled, restored.",
    epilog="Example: ragops index status",
)

Names = Annotated[
    list[str] | None, typer.Argument(help="Indexes; without any: all of the vector tables.", show_default=False)
]


@app.command()
def status(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the vector indexes: valid, invalid, dropped (journaled) or missing, with their size.

    Example: ragops index status
    """
    from ragops.report.indexes import indexes_table
    from ragops.status import read_indexes_status

    with look(playbook, dsn, needs={}) as (session, facts):
        indexes, notes = read_indexes_status(session, facts)
        for note in notes:
            session.reporter.info(note)
    listed = {"indexes": [index.to_json() for index in indexes], "notes": notes}
    emit(listed, as_json=as_json, screen=lambda _: indexes_table(indexes))


@app.command()
def drop(
    names: Names = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Journal the definitions, then drop the indexes; `ragops index rebuild` restores them.

    Example: ragops index drop idx_documents_embedding_hnsw
    """
    from ragops.campaign.neighbours import refuse_running_neighbours
    from ragops.campaign.steps.base import SingleCommand
    from ragops.campaign.steps.drop_indexes import drop as drop_indexes
    from ragops.campaign.steps.drop_indexes import select_indexes
    from ragops.indexes.concerned import VECTOR_TABLES, droppable_indexes
    from ragops.report.indexes import dropped_screen

    with write_session(playbook, dsn) as session:
        refuse_running_neighbours(session, VECTOR_TABLES)
        chosen = select_indexes(droppable_indexes(session.facts(), session.targets()), names or ())
        if chosen:
            listed = ", ".join(index.name for index in chosen)
            confirm(f"This drops {listed} in {session.target.label}.", answer="drop", yes=yes)
        result = drop_indexes(SingleCommand(session), names=names or ())
    emit(result, as_json=as_json, screen=dropped_screen)


@app.command()
def rebuild(
    names: Names = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    concurrently: Annotated[
        bool, typer.Option("--concurrently", help="Do not block writers; slower, and not in one transaction.")
    ] = False,
    maintenance_work_mem: Annotated[
        str | None,
        typer.Option(
            "--maintenance-work-mem",
            metavar="2GB",
            help="Memory for the build; without it, what the graph needs and the server has.",
        ),
    ] = None,
    parallel_workers: Annotated[
        int | None, typer.Option("--parallel-workers", min=0, max=64, help="Parallel workers of the build.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL and why; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the journaled indexes, or create the playbook's; a valid one is left alone.

    Example: ragops index rebuild
    """
    from ragops.campaign.steps import rebuild_indexes
    from ragops.campaign.steps.base import SingleCommand
    from ragops.playbook.steps import RebuildIndexes
    from ragops.report.indexes import rebuilding_screen, rebuilt_screen
    from ragops.status import list_indexes

    if maintenance_work_mem and not re.fullmatch(r"[1-9][0-9]*(kB|MB|GB|TB)", maintenance_work_mem):
        raise UsageError(
            "not an amount of memory",
            where="--maintenance-work-mem",
            actual=maintenance_work_mem,
            expected="e.g. 2GB",
        )
    step = RebuildIndexes(
        step="rebuild_indexes",
        concurrently=concurrently,
        maintenance_work_mem=maintenance_work_mem,
        parallel_workers=parallel_workers,
    )
    with read_session(playbook, dsn) if dry_run else write_session(playbook, dsn) as session:
        known = [index.name for index in list_indexes(session, session.facts())]
        check_names(names or (), known, what="index")
        run = SingleCommand(session)
        if dry_run:
            planned = rebuild_indexes.plan_rebuild(run, step, names=names or ())
            emit(planned, as_json=as_json, screen=rebuilding_screen)
            return
        result = session.through_outages(lambda: rebuild_indexes.rebuild(run, step, names=names or ()))
    emit(result, as_json=as_json, screen=rebuilt_screen)
