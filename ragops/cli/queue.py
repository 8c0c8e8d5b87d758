"""`ragops queue reseed · status · retry`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, PlaybookName
from ragops.cli.session import emit, overrides, session

OLD_S = 300.0
"""A transaction open for so long costs a busy queue more than it should."""

app = typer.Typer(
    no_args_is_help=True, help="The queue of documents to embed.", epilog="Example: ragops queue status"
)


@app.command()
def reseed(
    folder: Annotated[Path | None, typer.Option("--folder", help="Folder of documents.")] = None,
    pattern: Annotated[list[str] | None, typer.Option("--pattern", help="e.g. '*.md'; repeatable.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Table whose rows are the documents.")] = None,
    id_column: Annotated[str, typer.Option("--id-column", help="Its id.")] = "id",
    text_column: Annotated[str, typer.Option("--text-column", help="Its text.")] = "content",
    query: Annotated[str | None, typer.Option("--query", help="SELECT of (id, text).")] = None,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="File with one path a line.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add what the queue has not yet.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Fill the queue from a folder, a table, a query or a manifest, by binary COPY.

    Without options the playbook's source is taken. `ragops embed` reads from what the queue was filled from.

    Example: ragops queue reseed --folder ./docs --pattern '*.md'
    """
    from ragops.campaign.steps import reseed_queue

    source = _source(folder, pattern, table, id_column, text_column, query, manifest)
    with session(playbook, dsn, changes=overrides(source=source), changes_data=True) as context:
        effect = reseed_queue.run(context, append=append)
    emit(effect, as_json=as_json, screen=lambda e: f"{e['seeded']:,} documents queued")


def _source(
    folder: Path | None,
    pattern: list[str] | None,
    table: str | None,
    id_column: str,
    text_column: str,
    query: str | None,
    manifest: Path | None,
) -> dict[str, Any] | None:
    """The playbook's source replaced as a whole; None when no option asks for it."""
    from ragops.errors import UsageError

    kinds = {"folder": folder, "table": table, "query": query, "manifest": manifest}
    given = {name: value for name, value in kinds.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"one source only, found --{' and --'.join(given)}")
    if not given:
        return {"patterns": tuple(pattern)} if pattern else None
    patterns = tuple(pattern) if pattern else ("**/*",)
    return {**kinds, "id_column": id_column, "text_column": text_column, "patterns": patterns, "root": None}


@app.command()
def status(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Count the items by status, with percent; show the first failures with their reasons.

    Names the transaction that keeps vacuum from cleaning up, when it is older than five minutes.

    Example: ragops queue status
    """
    from ragops.postgres.queue import Queue
    from ragops.postgres.vacuum_blockers import oldest_blocker

    with session(playbook, dsn, needs_ledger=False) as context:
        queue = Queue(context.connection, context.playbook.tables)
        counts = queue.counts()
        failures = queue.failures()
        holder = oldest_blocker(context.connection, min_age_s=OLD_S)
    total = sum(counts.values())
    shares = {name: round(100 * n / total, 2) if total else 0.0 for name, n in counts.items()}
    listed = [{"location": location, "reason": reason} for location, reason in failures]
    held = holder and {**asdict(holder), "summary": str(holder), "remedy": holder.remedy}
    result = {"queue": counts, "percent": shares, "failures": listed, "holder": held}
    emit(result, as_json=as_json, screen=_counts)


def _counts(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ragops.report.terminal import table

    rows = [[name, f"{n:,}", f"{result['percent'][name]:.2f}%"] for name, n in result["queue"].items()]
    parts: list[Any] = [table("status", "items", "share", rows=rows, right=(1, 2))]
    if result["failures"]:
        failed = [[f["location"], f["reason"] or ""] for f in result["failures"]]
        parts.append(table("failed", "reason", rows=failed))
        parts.append("next: mend them, then: ragops queue retry")
    if held := result["holder"]:
        parts.append(Text(f"vacuum is held back, so that the tables grow: {held['summary']}"))
        parts.append(Text(f"next: {held['remedy']}"))
    return Group(*parts)


@app.command()
def retry(playbook: PlaybookName = DEFAULT_PLAYBOOK, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Put the failed items back to pending.

    Example: ragops queue retry
    """
    from ragops.postgres.queue import Queue

    with session(playbook, dsn, changes_data=True) as context:
        retried = Queue(context.connection, context.playbook.tables).retry_failed()
    emit(
        {"retried": retried},
        as_json=as_json,
        screen=lambda r: f"{r['retried']:,} items are pending again" + ("; next: ragops embed" if retried else ""),
    )
