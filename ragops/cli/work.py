"""Commands `ragops embed`, `ragops validate`, `ragops tune`: what takes time, each alone."""

from __future__ import annotations

from typing import Annotated

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
    TrustStored,
    WorkerCount,
)
from ragops.cli.session import emit, look, overrides, write_session


def register(app: typer.Typer) -> None:
    app.command("embed")(embed)
    app.command("validate")(validate)
    app.command("tune")(tune)


def embed(
    workers: WorkerCount = None,
    batch_size: BatchSize = None,
    until: Annotated[
        int | None,
        typer.Option("--until", min=1, help="Stop after exactly N documents have been embedded.", metavar="N"),
    ] = None,
    threads: ThreadCount = None,
    no_cache: NoCache = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    trust_stored: TrustStored = False,
    as_json: AsJson = False,
) -> None:
    """Embed what the queue holds: claim, extract, chunk, embed, check, write.

    Several invocations, on several machines, may run together.

    Example: ragops embed --workers 3
    """
    from dataclasses import replace

    from ragops.campaign.rehearsal import refuse_unwritable
    from ragops.campaign.steps.base import SingleCommand
    from ragops.campaign.steps.embed import EmbedReport, closed_gate, drain
    from ragops.report.campaign import embed_screen

    changes = overrides(workers=workers, threads=threads, batch_size=batch_size, no_cache=no_cache, model=model)
    with write_session(playbook, dsn, changes=changes, is_shared=True) as session:
        session = replace(session, trust_stored=trust_stored)
        session.through_outages(lambda: refuse_unwritable(session))
        report = EmbedReport(
            drain(SingleCommand(session), until=until), session.through_outages(lambda: closed_gate(session))
        )
    emit(report, as_json=as_json, screen=embed_screen)


def validate(
    after: Annotated[
        int | None, typer.Option("--after", min=1, help="Wait until N documents are embedded.", metavar="N")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            help="Stored rows to embed again; a number above the table's checks every row.",
            show_default="the playbook's",
        ),
    ] = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Check what is stored; a random sample is embedded again and must agree. Exit 3 when it does not.

    Example: ragops validate --after 1000
    """
    from ragops.campaign.reading import CHUNKS, QUEUE, TEXTS, readable
    from ragops.campaign.steps.base import SingleCommand
    from ragops.campaign.steps.validate import validate as run_validation
    from ragops.report.campaign import validation_screen

    changes = overrides(model=model)
    if sample is not None:
        changes["validation"] = {"sample": sample}
    # Waiting for a number of items is asking the queue; otherwise its counts are only shown beside the documents'.
    needs, extras = ({**TEXTS, **QUEUE}, CHUNKS) if after is not None else (TEXTS, {**CHUNKS, **QUEUE})
    with look(playbook, dsn, changes=changes, needs=needs, extras=extras, computes=True) as (session, facts):
        usable = readable(session.playbook.tables, facts, {**needs, **extras})
        run = SingleCommand(session.without(set(extras) - usable))
        result = session.through_outages(lambda: run_validation(run, after=after))
    emit(result, as_json=as_json, screen=validation_screen)
    if result.verdict == "fail":
        raise typer.Exit(3)


def tune(
    seconds: Annotated[int, typer.Option("--seconds", min=5, max=600, help="How long to measure, about.")] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the table; store nothing.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    trust_stored: TrustStored = False,
    as_json: AsJson = False,
) -> None:
    """Measure workers × threads on the corpus; keep the fastest for this host, build and model.

    A setting that moves vectors by more than the playbook's build.max_drift is refused. Exit 3 when all are.

    Example: ragops tune --seconds 60
    """
    from dataclasses import replace

    from ragops.report.tuning import tune_screen
    from ragops.tuning.run import tune as run_tuning

    changes = overrides(model=model)
    with write_session(playbook, dsn, changes=changes, needs_tables=False, is_shared=True) as session:
        result = run_tuning(replace(session, trust_stored=trust_stored), seconds=seconds, save=not dry_run)
    emit(result, as_json=as_json, screen=tune_screen)
