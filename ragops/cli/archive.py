"""Commands `ragops archive status · drop`."""

from __future__ import annotations

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName, Yes
from ragops.cli.session import confirm, emit, open_session, write_session

app = typer.Typer(
    no_args_is_help=True,
    help="Rows and vectors kept in the schema `ragops` before they were removed or replaced.",
    epilog="Example: ragops archive status",
)


@app.command()
def status(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List archived tables and vectors with rows, size, campaign and whether they were restored.

    Example: ragops archive status
    """
    from dataclasses import asdict

    from ragops.report.tables import archives_screen
    from ragops.status import read_archives_status, read_vector_archives_status

    with open_session(playbook, dsn) as session:
        archives = read_archives_status(session)
        vectors = read_vector_archives_status(session)
    listed = {
        "archives": [asdict(archive) for archive in archives],
        "vectors": [asdict(archive) for archive in vectors],
    }
    emit(listed, as_json=as_json, screen=lambda _: archives_screen(archives, vectors))


@app.command()
def drop(
    playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Drop every archive and free its space; `ragops undo` can no longer bring those rows and vectors back.

    Example: ragops archive drop --yes
    """
    from ragops.campaign.run import refuse_unfinished
    from ragops.campaign.undo_vectors import refuse_needed
    from ragops.postgres.archive import all_archives, drop_archives
    from ragops.postgres.vector_archives import drop_vector_archives, list_vector_archives
    from ragops.report.units import size

    with write_session(playbook, dsn, needs_tables=False) as session:
        archives, vectors = all_archives(session.connection), list_vector_archives(session.connection)
        refuse_unfinished(session)
        refuse_needed(session)
        count = len(archives) + len(vectors)
        if count:
            rows = sum(archive.rows for archive in archives) + sum(archive.rows or 0 for archive in vectors)
            question = f"This drops {count} archives with {rows:,} rows in {session.target.label}."
            confirm(question, answer="drop", yes=yes)
        drop_archives(session.connection)
        drop_vector_archives(session.connection)
    freed = sum(archive.bytes for archive in archives) + sum(archive.bytes for archive in vectors)
    emit(
        {"dropped": count, "bytes_freed": freed},
        as_json=as_json,
        screen=lambda _: f"{count} archives dropped, {size(freed)} freed",
    )
