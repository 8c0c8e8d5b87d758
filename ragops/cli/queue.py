"""Commands `ragops queue reseed · status · retry · release`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName
from ragops.cli.session import emit, look, overrides, refuse_rows, write_session

# A transaction that is open longer than this costs a busy queue more than it should.
OLD_S = 300.0

app = typer.Typer(
    no_args_is_help=True, help="The queue of documents to embed.", epilog="Example: ragops queue status"
)


@app.command()
def reseed(
    folder: Annotated[Path | None, typer.Option("--folder", help="Folder of documents.")] = None,
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", help="Take these, e.g. '*.md'; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Not these, e.g. drafts; repeatable.")
    ] = None,
    table: Annotated[str | None, typer.Option("--table", help="Table whose rows are the documents.")] = None,
    id_column: Annotated[str, typer.Option("--id-column", help="Its id.")] = "id",
    text_column: Annotated[str, typer.Option("--text-column", help="Its text.")] = "content",
    query: Annotated[str | None, typer.Option("--query", help="SELECT of (id, text).")] = None,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="File with one path per line.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add only what is not in the queue yet.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Fill the queue from a folder, a table, a query or a manifest, by binary COPY.

    Without options the playbook's source is taken. `ragops embed` reads from what the queue was filled from.

    Example: ragops queue reseed --folder ./docs --pattern '*.md'
    """
    from ragops.campaign.steps.base import SingleCommand
    from ragops.campaign.steps.reseed_queue import ReseedQueueStep, append_source
    from ragops.playbook.steps import ReseedQueue

    source = _source(folder, pattern, exclude, table, id_column, text_column, query, manifest)
    with write_session(playbook, dsn, changes=overrides(source=source)) as session:
        refuse_rows(
            session, "ragops queue reseed", "its step select_rows queues the rows: ragops reset --playbook …"
        )
        if append:
            result = append_source(session)
        else:
            result = ReseedQueueStep(ReseedQueue(step="reseed_queue")).run(SingleCommand(session))
    emit(result, as_json=as_json, screen=lambda r: f"{r.seeded:,} documents queued")


def _source(
    folder: Path | None,
    pattern: list[str] | None,
    exclude: list[str] | None,
    table: str | None,
    id_column: str,
    text_column: str,
    query: str | None,
    manifest: Path | None,
) -> dict[str, object] | None:
    """Return the playbook's source replaced as a whole; None when no option asks for it."""
    from ragops.errors import UsageError

    kinds = {"folder": folder, "table": table, "query": query, "manifest": manifest}
    given = {name: value for name, value in kinds.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"one source only, found --{' and --'.join(given)}")
    chosen = {name: tuple(found) for name, found in (("include", pattern), ("exclude", exclude)) if found}
    if not given:
        return dict(chosen) or None
    columns = {"id_column": id_column, "text_column": text_column}
    return {**kinds, **columns, "include": ("**/*",), "exclude": (), "root": None, **chosen}


@app.command()
def status(
    list_all: Annotated[
        bool, typer.Option("--all", help="List every failed, excluded and partial item, not only the groups.")
    ] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Count the items by status; show why items failed, by reason, and which documents lack text.

    Names the transaction that keeps vacuum from cleaning up, when it is older than five minutes.

    Example: ragops queue status
    """
    from ragops.postgres.vacuum_blockers import oldest_blocker
    from ragops.report.queue import QueueStatus, queue_screen
    from ragops.status import read_queue

    with look(playbook, dsn, needs={}) as (session, facts):
        read = read_queue(session, facts, lists_all=list_all or as_json)
        for note in read.notes:
            session.reporter.info(note)
        blocker = oldest_blocker(session.connection, min_age_s=OLD_S)
        result = QueueStatus(read, blocker, lists_all=list_all, targets=session.playbook.targets)
    emit(result, as_json=as_json, screen=queue_screen)


@app.command()
def retry(
    excluded: Annotated[
        bool, typer.Option("--excluded", help="Those that `reset --resume --exclude` has taken out of the count.")
    ] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Put the failed items back to pending, or with --excluded those that were excluded.

    Example: ragops queue retry
    """
    from ragops.campaign.answers import include_again

    with write_session(playbook, dsn) as session:
        retried = include_again(session) if excluded else session.queue.retry_failed()
    emit(
        {"retried": retried},
        as_json=as_json,
        screen=lambda _: f"{retried:,} items are pending again" + ("; next: ragops embed" if retried else ""),
    )


@app.command()
def release(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Put items back to pending that another program left in process, without a lease or claim.

    For when that program is gone: it would embed and store them beside ragops. ragops' own items have a lease,
    which ends by itself.

    Example: ragops queue release
    """
    from ragops.postgres.taken_items import return_all_items

    # Beside a campaign, too, which may be what waits for these items.
    with write_session(playbook, dsn, is_shared=True) as session:
        released = return_all_items(session.connection, session.playbook.tables)
    emit(
        {"released": released},
        as_json=as_json,
        screen=lambda _: f"{released:,} items are pending again" + ("; next: ragops embed" if released else ""),
    )
