"""`ragops index status · drop · rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import confirm, emit, session

if TYPE_CHECKING:
    from ragops.playbook.steps import RebuildIndexes

app = typer.Typer(
    no_args_is_help=True,
    help="HNSW indexes: found in the catalog, journaled, restored.",
    epilog="Example: ragops index status",
)

Names = Annotated[
    list[str] | None, typer.Argument(help="Indexes; without any: all of the vector tables.", show_default=False)
]


@app.command()
def status(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the HNSW indexes: valid, invalid, dropped (journaled) or missing, with their size.

    Example: ragops index status
    """
    from ragops.report.terminal import indexes_table
    from ragops.status import list_indexes

    with session(playbook, dsn, needs_ledger=False) as context:
        indexes = list_indexes(context, context.facts())
    emit({"indexes": indexes}, as_json=as_json, screen=lambda result: indexes_table(result["indexes"]))


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
    from ragops.campaign.steps import drop_indexes
    from ragops.indexes.plan import droppable_indexes

    with session(playbook, dsn, changes_data=True) as context:
        found = drop_indexes.select_indexes(droppable_indexes(context.facts()), names or ())
        if found:
            listed = ", ".join(index.name for index in found)
            confirm(f"This drops {listed} in {context.target.label}.", answer="drop", yes=yes)
        effect = drop_indexes.run(context, names=names or ())
    emit(effect, as_json=as_json, screen=_dropped)


def _dropped(effect: dict[str, Any]) -> str:
    from ragops.report.units import size

    if not effect["dropped"]:
        return "nothing to drop"
    return f"dropped {', '.join(effect['dropped'])} ({size(effect['bytes'])}); definitions are in the journal"


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
    from ragops.cli.session import check_names
    from ragops.status import list_indexes

    step = _step(concurrently, memory=maintenance_work_mem, workers=parallel_workers)
    with session(playbook, dsn, needs_ledger=not dry_run, changes_data=not dry_run) as context:
        known = [index["name"] for index in list_indexes(context, context.facts())]
        check_names(names or (), known, what="index")
        if dry_run:
            planned = rebuild_indexes.describe(rebuild_indexes.plan(context, step, names=names or ()))
            emit(planned, as_json=as_json, screen=_planned)
            return
        effect = rebuild_indexes.run(context, step, names=names or ())
    emit(effect, as_json=as_json, screen=_rebuilt)


def _step(concurrently: bool, *, memory: str | None, workers: int | None) -> RebuildIndexes:
    from ragops.playbook.steps import RebuildIndexes

    return RebuildIndexes(
        step="rebuild_indexes",
        concurrently=concurrently,
        maintenance_work_mem=None if memory is None else _checked_memory(memory),
        parallel_workers=workers,
    )


def _checked_memory(text: str) -> str:
    import re

    from ragops.errors import UsageError

    if not re.fullmatch(r"[1-9][0-9]*(kB|MB|GB|TB)", text):
        raise UsageError(
            "not an amount of memory", where="--maintenance-work-mem", actual=text, expected="e.g. 2GB"
        )
    return text


def _planned(planned: dict[str, Any]) -> str:
    lines = []
    for build in planned["plan"]:
        lines += [f"{build['name']} on {build['table']}" + (f": {build['note']}" if build["note"] else "")]
        lines += [f"  {statement};" for statement in build["sql"]]
    lines += [f"{name}: already present" for name in planned["present"]]
    return "\n".join(lines) or "no index to build"


def _rebuilt(effect: dict[str, Any]) -> str:
    from ragops.report.units import duration, size

    lines = [
        f"{i['name']} on {i['table']}: {size(i['bytes'])} in {duration(i['seconds'])}" for i in effect["indexes"]
    ]
    lines += [f"{name}: already present" for name in effect["present"]]
    return "\n".join(lines) or "no index to build"
