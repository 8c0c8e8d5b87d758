"""`ragops embed`, `ragops validate`, `ragops tune`: what takes time, each alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ragops.cli.options import (
    DEFAULT_PLAYBOOK,
    AsJson,
    BatchSize,
    Dsn,
    ModelFile,
    NoCache,
    PlaybookName,
    ThreadCount,
    WorkerCount,
)
from ragops.cli.session import emit, overrides, session


def register(app: typer.Typer) -> None:
    app.command("embed")(embed)
    app.command("validate")(validate)
    app.command("tune")(tune)


def embed(
    workers: WorkerCount = None,
    batch_size: BatchSize = None,
    until: Annotated[
        int | None, typer.Option("--until", min=1, help="Stop at exactly so many embedded documents.")
    ] = None,
    threads: ThreadCount = None,
    no_cache: NoCache = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Embed what the queue holds: claim, extract, chunk, embed, check, write.

    Several invocations, on several machines, may run together.

    Example: ragops embed --workers 3
    """
    from ragops.campaign.steps import embed as step

    changes = overrides(workers=workers, threads=threads, batch_size=batch_size, no_cache=no_cache, model=model)
    with session(playbook, dsn, changes=changes) as context:
        effect = step.run(context, until=until)
        effect["gate"] = step.closed_gate(context)
    emit(effect, as_json=as_json, screen=_embed_screen)


def _embed_screen(effect: dict[str, Any]) -> str:
    from ragops.report.units import duration, number

    if effect["completed"] or effect["failed"]:
        rate = f", {effect['docs_per_s']:.1f} documents/s" if effect["docs_per_s"] else ""
        failed = f"; {number(effect['failed'])} failed (ragops queue status)" if effect["failed"] else ""
        chunks, seconds = number(effect["chunks"]), duration(effect["seconds"])
        lines = [f"{number(effect['completed'])} documents ({chunks} chunks) embedded in {seconds}{rate}{failed}"]
        if effect["reused"]:
            lines.append(f"{number(effect['reused'])} of the chunks needed no embedding: their text was known")
    else:
        lines = ["nothing to embed"]
    lines.append("queue: " + ", ".join(f"{number(n)} {status}" for status, n in effect["queue"].items()))
    if effect["gate"]:
        lines.append(effect["gate"])
    return "\n".join(lines)


def validate(
    after: Annotated[
        int | None, typer.Option("--after", min=1, help="Wait until so many documents are embedded.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Stored rows to embed again.", show_default="the playbook's"),
    ] = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Check what is stored; a random sample is embedded again and must agree. Exit 3 when it does not.

    Example: ragops validate --after 1000
    """
    from ragops.campaign.steps import validate as step
    from ragops.report.terminal import validation_screen

    changes = overrides(model=model)
    if sample is not None:
        changes["validation"] = {"sample": sample}
    with session(playbook, dsn, changes=changes, needs_ledger=False) as context:
        effect = step.run(context, after=after)
    emit(effect, as_json=as_json, screen=validation_screen)
    if effect["verdict"] == "fail":
        raise typer.Exit(3)


def tune(
    seconds: Annotated[int, typer.Option("--seconds", min=5, max=600, help="How long to measure, about.")] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the table; store nothing.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure shapes of the fleet on the corpus; keep the fastest for this host, build and model.

    A setting that moves vectors by more than the playbook's build.max_drift is refused. Exit 3 when all are.

    Example: ragops tune --seconds 60
    """
    from ragops.report.tuning import tune_screen
    from ragops.tuning import run as step

    with session(playbook, dsn, changes=overrides(model=model), needs_tables=False) as context:
        result = step.run(context, seconds=seconds, save=not dry_run)
    emit(result, as_json=as_json, screen=tune_screen)
