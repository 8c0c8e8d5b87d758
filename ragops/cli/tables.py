"""`ragops tables empty`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import check_names, confirm, emit, session
from ragops.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="The tables that a campaign empties.",
    epilog="Example: ragops tables empty documents document_chunks",
)


@app.callback()
def _tables() -> None:
    """The tables that a campaign empties."""


@app.command()
def empty(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="documents, document_chunks, …; without any: the playbook's.", show_default=False),
    ] = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    no_archive: Annotated[bool, typer.Option("--no-archive", help="Keep no copy of the rows.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Archive and empty tables by truncate or delete, as the playbook says; shows the bytes freed.

    Example: ragops tables empty documents document_chunks --no-archive
    """
    from ragops.campaign.plan import refuse_problems
    from ragops.campaign.preflight import find_problems
    from ragops.campaign.steps import empty_tables
    from ragops.playbook.steps import EmptyTables

    with session(playbook, dsn, changes_data=True) as context:
        check_names(tables or (), list(context.playbook.tables.mapped()), what="table")
        steps = [step for step in context.playbook.steps if isinstance(step, EmptyTables)]
        step = _narrowed(steps[0] if steps else EmptyTables(step="empty_tables"), tables, no_archive)
        # Only this step's tables count for the foreign keys.
        alone = context.playbook.model_copy(update={"steps": (step,)})
        facts = context.facts(exact=True)
        refuse_problems(find_problems(alone, facts, model=None), where=context.target.label)
        chosen = [facts.tables[entry.table] for entry in step.tables]
        rows = sum(table.rows for table in chosen if table)
        listed = ", ".join(f"{table.qualified} ({table.rows:,})" for table in chosen if table)
        confirm(f"This empties {rows:,} rows of {listed}.", answer=facts.server.database, yes=yes or rows == 0)
        effect = empty_tables.run(context, step)
    emit(effect, as_json=as_json, screen=_emptied)


def _narrowed(step: Any, names: list[str] | None, no_archive: bool) -> Any:
    from ragops.playbook.steps import EmptyTable

    entries = step.tables
    if names:
        known = {entry.table: entry for entry in entries}
        entries = tuple(known.get(name) or EmptyTable.model_validate({"table": name}) for name in names)
    if not entries:
        raise UsageError("no table to empty", hint="name tables, or add an empty_tables step to the playbook")
    return step.model_copy(update={"tables": entries, "archive": step.archive and not no_archive})


def _emptied(effect: dict[str, Any]) -> Any:
    from ragops.report.terminal import table
    from ragops.report.units import number, size

    rows = [
        [t["table"], number(t["rows"]), size(t["bytes_before"]), size(t["bytes_after"])] for t in effect["tables"]
    ]
    rows.append(["freed", number(effect["rows"]), size(effect["bytes_freed"]), ""])
    return table("table", "rows", "before", "after", rows=rows, right=(1, 2, 3))
