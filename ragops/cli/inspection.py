"""Commands `ragops verify`, `ragops search`, `ragops status`: they change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, ModelFile, PlaybookName
from ragops.cli.session import emit, load, look, overrides, stoppable


def register(app: typer.Typer) -> None:
    app.command("verify")(verify)
    app.command("search")(search)
    app.command("status")(status)


def verify(
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REF",
            help="Reference: a fingerprint file, http(s)://HOST/v1, or a debug endpoint's URL with {query}.",
            show_default="the playbook's reference",
        ),
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option("--requirements", metavar="FILE", help="Requirements file to check; prints corrected lines."),
    ] = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the build as it effectively is, the model and the host, and measure drift against a reference.

    Exit 3 unless build and model are the playbook's and the vector space is at least `build.accept`.

    Example: ragops verify --against backend.json
    """
    from ragops.cli.references import parse_reference
    from ragops.fingerprint.verify import verify as verify_build
    from ragops.report.console import console_reporter
    from ragops.report.fingerprint import verify_screen
    from ragops.workers.sizing import shape_of, size_fleet

    changes = overrides(model=model)
    reporter = console_reporter()
    loaded, _ = load(playbook, dsn, reporter=reporter)
    reference = parse_reference(against) if against else loaded.reference
    adapted = loaded.with_changes(**changes)
    with stoppable(reporter):
        result = verify_build(adapted, reference=reference, shape=shape_of(size_fleet(adapted)))
    if reference.debug is not None:
        from ragops.campaign.reading import VECTORS
        from ragops.campaign.steps.verify_build import compare_debug

        with look(playbook, dsn, changes=changes, needs=VECTORS, computes=True) as (session, _):
            result = result.with_debug(compare_debug(session, reference.debug))
    if requirements is not None:
        result = result.with_requirements(requirements)
    emit(result, as_json=as_json, screen=verify_screen)
    if not result.is_accepted:
        raise typer.Exit(3)


def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Neighbours to show.")] = 10,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the nearest documents, by a full scan and as the index finds them, with distances.

    Example: ragops search "how to open a file" --limit 5
    """
    from ragops.campaign.reading import TEXTS
    from ragops.indexes.search import find_nearest
    from ragops.report.status import search_screen

    with look(playbook, dsn, changes=overrides(model=model), needs=TEXTS, computes=True) as (session, _):
        result = find_nearest(session, text, limit=limit)
    emit(result, as_json=as_json, screen=search_screen)


def status(
    exact: Annotated[bool, typer.Option("--exact", help="Count every row, however long it takes.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show documents, queue, parsed files, indexes, campaign and step on one screen.

    What cannot be counted at once is estimated from the catalog, and marked with ≈. A table that is missing,
    locked or not readable is named, and the rest is shown.

    Example: ragops status --json
    """
    from ragops.status import read_status

    with look(playbook, dsn, needs={}) as (session, facts):
        result = read_status(session, facts, exact=exact)
    from ragops.report.status import status_screen

    emit(result, as_json=as_json, screen=status_screen)
