"""`ragops db start · stop · url · init`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, ModelFile, PlaybookName
from ragops.cli.session import emit, load, overrides, start_embedded

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
    emit({"url": start_embedded().conninfo}, as_json=as_json, screen=lambda r: _plain(r["url"]))


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ignore")


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

    Existing tables, columns and settings stay as they are.

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
    emit(result, as_json=as_json, screen=_created)


def _model_dimensions(playbook: Any) -> int:
    from ragops.campaign.steps.verify_build import probe_model

    return int(playbook.model.dimensions or probe_model(playbook).dimensions)


def _created(result: dict[str, Any]) -> str:
    created, advice = result["created"], result["advice"]
    lines = [_statements(created)] if result["dry_run"] and created else [f"created {e['what']}" for e in created]
    if advice:
        lines.append(
            f"-- not done: the queue works without, and faster once its owner runs\n{_statements(advice)}"
        )
    return ("\n\n" if result["dry_run"] else "\n").join(lines) or "nothing is missing"


def _statements(additions: list[dict[str, Any]]) -> str:
    return "\n\n".join(entry["sql"] + ";" for entry in additions)
