"""Commands `ragops db start · stop · url · init`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, ModelFile, PlaybookName
from ragops.cli.session import emit, load, overrides, start_embedded

if TYPE_CHECKING:
    from ragops.playbook.model import Playbook
    from ragops.postgres.setup import Addition

app = typer.Typer(
    no_args_is_help=True,
    help="The embedded PostgreSQL, and what ragops needs in any database.",
    epilog="Example: ragops db init --dsn postgresql://rag@localhost/rag",
)


@app.command()
def start(as_json: AsJson = False) -> None:
    """Start the embedded server; every command that needs it does so by itself.

    Example: ragops db start
    """
    target = start_embedded()
    emit(
        {"running": True, "database": target.label}, as_json=as_json, screen=lambda r: f"running: {r['database']}"
    )


@app.command()
def stop(as_json: AsJson = False) -> None:
    """Stop the embedded server; its data survive.

    Example: ragops db stop
    """
    from ragops.paths import server_folder
    from ragops.postgres.embedded import EmbeddedServer

    stopped = EmbeddedServer(server_folder()).stop()
    emit(
        {"stopped": stopped}, as_json=as_json, screen=lambda r: "stopped" if r["stopped"] else "it was not running"
    )


@app.command()
def url(as_json: AsJson = False) -> None:
    """Print the embedded server's URL, for psql and other programs.

    Example: psql "$(ragops db url)"
    """
    from rich.text import Text

    # Rich would break a long URL into lines, which no program can read.
    emit(
        {"url": start_embedded().conninfo},
        as_json=as_json,
        screen=lambda r: Text(r["url"], no_wrap=True, overflow="ignore"),
    )


@app.command()
def init(
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, help="Of the vectors.", show_default="the model's")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL; change nothing.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Create what is missing: pgvector, the five tables, a queue's columns, indexes and settings, ragops' schema.

    Existing tables, columns and settings stay unchanged.

    Example: ragops db init --dsn postgresql://rag@localhost/rag --dimensions 768
    """
    from ragops.postgres.connection import connect
    from ragops.postgres.setup import initialise, plan_setup

    loaded, target = load(playbook, dsn)
    adapted = loaded.with_changes(**overrides(model=model))
    target = target or start_embedded()
    with connect(target, with_vector=False) as connection:
        additions = plan_setup(
            connection, adapted.tables, dimensions=lambda: dimensions or _model_dimensions(adapted)
        )
        if not dry_run:
            initialise(connection, target, additions)
    result = {
        "created": [{"what": a.what, "sql": a.sql} for a in additions if not a.is_advice],
        "advice": [{"what": a.what, "sql": a.sql} for a in additions if a.is_advice],
        "dry_run": dry_run,
    }
    emit(result, as_json=as_json, screen=lambda _: _screen(additions, dry_run=dry_run))


def _model_dimensions(playbook: Playbook) -> int:
    """Return the dimensions that the playbook declares, else those of the model, which is loaded for it."""
    from ragops.embedder.config import probe_model

    return int(playbook.model.dimensions or probe_model(playbook).dimensions)


def _screen(additions: Sequence[Addition], *, dry_run: bool) -> str:
    """Return what was created, or with `dry_run` its SQL; then the SQL of what another role should create."""
    created = [addition for addition in additions if not addition.is_advice]
    advice = [f"{addition.sql};" for addition in additions if addition.is_advice]
    parts = [f"{addition.sql};" if dry_run else f"created {addition.what}" for addition in created]
    if advice:
        heading = "-- not created: another role owns the queue. It works without, but is faster if its owner runs"
        parts.append("\n".join([heading, "\n\n".join(advice)]))
    return ("\n\n" if dry_run else "\n").join(parts) or "nothing is missing"
