"""Commands `ragops archive status · drop`."""

from __future__ import annotations

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import confirm, emit, open_session, write_session

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
    from dataclasses import asdict

    from ragops.report.tables import archives_screen
    from ragops.status import read_archives_status

    with open_session(playbook, dsn) as session:
        archives = read_archives_status(session)
    listed = {"archives": [asdict(archive) for archive in archives]}
    emit(listed, as_json=as_json, screen=lambda _: archives_screen(archives))


@app.command()
def drop(
    playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Drop every archive and free its space; `ragops undo` can no longer bring those rows back.

    Example: ragops archive drop --yes
    """
    from ragops.campaign.run import refuse_unfinished
    from ragops.postgres.archive import all_archives, drop_archives
    from ragops.report.units import size

    with write_session(playbook, dsn, needs_tables=False) as session:
        archives = all_archives(session.connection)
        refuse_unfinished(session)
        if archives:
            rows = sum(archive.rows for archive in archives)
            question = f"This drops {len(archives)} archives with {rows:,} rows in {session.target.label}."
            confirm(question, answer="drop", yes=yes)
        drop_archives(session.connection)
    freed = sum(archive.bytes for archive in archives)
    emit(
        {"dropped": len(archives), "bytes_freed": freed},
        as_json=as_json,
        screen=lambda _: f"{len(archives)} archives dropped, {size(freed)} freed",
    )
