"""`ragops archive status · drop`."""

from __future__ import annotations

from typing import Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import confirm, emit, session

app = typer.Typer(
    no_args_is_help=True,
    help="Rows kept in the schema `ragops` before tables were emptied.",
    epilog="Example: ragops archive status",
)


@app.command()
def status(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the archived tables with rows, size, campaign and whether they were restored.

    Example: ragops archive status
    """
    from ragops.postgres.ledger import all_archives

    with session(playbook, dsn, needs_tables=False) as context:
        archives = all_archives(context.connection)
    emit({"archives": archives}, as_json=as_json, screen=_screen)


@app.command()
def drop(
    playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Drop every archive and free its space; `ragops undo` cannot bring those rows back any more.

    Example: ragops archive drop --yes
    """
    from ragops.campaign.run import refuse_unfinished
    from ragops.postgres.ddl import drop_archives
    from ragops.postgres.ledger import all_archives

    with session(playbook, dsn, needs_tables=False, changes_data=True) as context:
        archives = all_archives(context.connection)
        refuse_unfinished(context)
        if archives:
            rows = sum(archive["rows"] for archive in archives)
            question = f"This drops {len(archives)} archives with {rows:,} rows in {context.target.label}."
            confirm(question, answer="drop", yes=yes)
        drop_archives(context.connection)
    freed = sum(archive["bytes"] for archive in archives)
    emit({"dropped": len(archives), "bytes_freed": freed}, as_json=as_json, screen=_dropped)


def _screen(result: dict[str, Any]) -> Any:
    from ragops.report.terminal import table
    from ragops.report.units import number, size

    rows = [
        [
            str(a["id"]),
            "–" if a["campaign"] is None else str(a["campaign"]),
            a["table"],
            number(a["rows"]),
            size(a["bytes"]),
            f"{a['created_at']:%Y-%m-%d %H:%M}",
            "restored" if a["restored_at"] else "",
        ]
        for a in result["archives"]
    ]
    if not rows:
        return "no archive"
    return table("#", "campaign", "table", "rows", "size", "archived", "", rows=rows, right=(0, 1, 3, 4))


def _dropped(result: dict[str, Any]) -> str:
    from ragops.report.units import size

    return f"{result['dropped']} archives dropped, {size(result['bytes_freed'])} freed"
