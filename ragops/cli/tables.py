"""Command `ragops tables empty`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import check_names, confirm, emit, refuse_rows, write_session
from ragops.errors import UsageError

if TYPE_CHECKING:
    from ragops.playbook.steps import EmptyTables

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
    from ragops.campaign.confirmed import Confirmed
    from ragops.campaign.neighbours import refuse_running_neighbours
    from ragops.campaign.plan import find_problems
    from ragops.campaign.preflight import refuse_problems
    from ragops.campaign.sources_at_risk import sources_at_risk
    from ragops.campaign.steps.base import PlanFacts, SingleCommand
    from ragops.campaign.steps.empty_tables import EmptyTablesStep
    from ragops.playbook.steps import EmptyTables
    from ragops.postgres.ledger import find_latest_campaign
    from ragops.postgres.space import read_space
    from ragops.report.tables import emptied_screen

    with write_session(playbook, dsn, adopts="never") as session:
        refuse_rows(session, "ragops tables empty", "no row of a target is ever removed")
        check_names(tables or (), list(session.playbook.tables.mapped()), what="table")
        steps = [step for step in session.playbook.steps if isinstance(step, EmptyTables)]
        settings = _narrowed(steps[0] if steps else EmptyTables(step="empty_tables"), tables, no_archive)
        # Only this step's tables count for the foreign keys.
        alone = session.playbook.model_copy(update={"steps": (settings,)})
        facts = session.facts(exact=True)
        present = [table for table in facts.tables.values() if table]
        newest = find_latest_campaign(session.connection, session.playbook.tables)
        refuse_running_neighbours(session, [entry.table for entry in settings.tables])
        problems = list(find_problems(PlanFacts(alone, facts, space=read_space(session.connection, present))))
        problems += sources_at_risk(session, facts, settings, newest)
        refuse_problems(problems, where=session.target.label)
        chosen = [facts.tables[entry.table] for entry in settings.tables]
        rows = sum(table.rows for table in chosen if table)
        if rows == 0:
            # Typed again after its answer was lost: an archive of nothing would be what `ragops undo` takes back.
            settings = settings.model_copy(update={"archive": False})
        listed = ", ".join(f"{table.quoted} ({table.rows:,})" for table in chosen if table)
        confirm(f"This empties {rows:,} rows of {listed}.", answer=facts.server.database, yes=yes or rows == 0)
        run = SingleCommand(session, Confirmed.of(facts), newest.id if newest else None)
        result = EmptyTablesStep(settings).run(run)
    emit(result, as_json=as_json, screen=emptied_screen)


def _narrowed(step: EmptyTables, names: list[str] | None, no_archive: bool) -> EmptyTables:
    from ragops.playbook.steps import EmptyTable

    entries = step.tables
    if names:
        known: dict[str, EmptyTable] = {entry.table: entry for entry in entries}
        # A table that is named twice is one table: archived twice, `undo` would restore every row twice.
        unique = dict.fromkeys(names)
        entries = tuple(known.get(name) or EmptyTable.model_validate({"table": name}) for name in unique)
    if not entries:
        raise UsageError("no table to empty", hint="name tables, or add an empty_tables step to the playbook")
    return step.model_copy(update={"tables": entries, "archive": step.archive and not no_archive})
