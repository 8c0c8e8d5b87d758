"""`ragops verify`, `ragops search`, `ragops status`: they change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, Dsn, ModelFile, PlaybookName
from ragops.cli.session import emit, load, overrides, require_tables, session


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
    from ragops.campaign.steps.verify_build import verify as verify_build
    from ragops.cli.references import parse_reference
    from ragops.fingerprint.against import is_accepted
    from ragops.report.console import ConsoleReporter
    from ragops.report.fingerprint import verify_screen

    loaded, _ = load(playbook, dsn, reporter=ConsoleReporter())
    reference = parse_reference(against) if against else loaded.reference
    effect = verify_build(loaded.with_changes(**overrides(model=model)), reference=reference)
    if reference.debug is not None:
        from ragops.fingerprint.against_debug import add_debug_comparison

        changes = overrides(model=model)
        with session(playbook, dsn, changes=changes, needs_ledger=False, reads=["documents"]) as context:
            add_debug_comparison(effect, context, reference.debug)
    if requirements is not None:
        add_requirements(effect, requirements, loaded.build.version)
    emit(effect, as_json=as_json, screen=verify_screen)
    if not effect["build_matches"] or (effect["reference"] and not is_accepted(effect["verdict"], loaded)):
        raise typer.Exit(3)


def add_requirements(effect: dict[str, Any], file: Path, version: str | None) -> None:
    """Put the findings about a requirements file, and its corrected lines, into a verification."""
    from dataclasses import asdict

    from ragops.builds.requirements import check_requirements, corrected_lines

    found = check_requirements(file)
    effect["findings"] = [*effect["findings"], *map(asdict, found)]
    if any(finding.severity == "error" for finding in found):
        effect["build_matches"] = False
        effect["verdict"] = "mismatch" if effect["verdict"] == "match" else effect["verdict"]
    if found:
        wanted = version or effect["effective"]["build"]["package_version"]
        effect["corrected_requirements"] = corrected_lines(file, wanted)


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
    from ragops.indexes.search import find_nearest
    from ragops.report.terminal import search_screen

    changes = overrides(model=model)
    with session(playbook, dsn, changes=changes, needs_ledger=False, reads=["documents"]) as context:
        result = find_nearest(context, text, limit=limit)
    emit(result, as_json=as_json, screen=search_screen)


def status(
    exact: Annotated[bool, typer.Option("--exact", help="Count every row, however long it takes.")] = False,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show documents, queue, parsed files, indexes, campaign and step on one screen.

    What cannot be counted at once is estimated from the catalog, and marked with ≈.

    Example: ragops status --json
    """
    from ragops.status import read_status

    with session(playbook, dsn, needs_tables=False, needs_ledger=False) as context:
        result = read_status(context, require_tables(context), exact=exact)
    emit(result, as_json=as_json, screen=_status_screen)


def _status_screen(result: dict[str, Any]) -> Any:
    from ragops.report.terminal import status_screen

    return status_screen(result)
