"""Screens of verification, of fingerprints and of their comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ragops.fingerprint.against_debug import DebugComparison
from ragops.fingerprint.compare import Comparison
from ragops.fingerprint.verify import Verification
from ragops.quality.spaces import SpaceDrift
from ragops.report.terminal import findings_text, table, verdict
from ragops.report.units import size

SHOWN_DIFFERENCES = 20
NO_RESET_NEEDED = (
    "no reset is needed for the build: both sides make one vector space.\n"
    "check instead what is stored (ragops validate), the indexes (ragops index status), a\n"
    "selective WHERE with HNSW (hnsw.iterative_scan, hnsw.ef_search) and the application's threshold"
)


def capture_screen(document: Mapping[str, Any]) -> RenderableType:
    """The facts of a captured fingerprint."""
    build, model = document["build"], document["model"]
    lines = [
        f"wrote {document['file']}",
        f"llama-cpp-python {build['package_version']} under {build['python']}",
        f"features  {' '.join(name for name, value in build['features'].items() if value != '0')}",
        f"CMAKE_ARGS  {build['cmake_args'] or 'not recorded'}",
        f"model  {model['description']}, {model['dimensions']} dimensions, {model['pooling']} pooling",
        f"canary  version {document['canary']['version']}, {len(document['rows'])} texts embedded",
    ]
    return Text("\n".join(lines))


def verify_screen(result: Verification) -> RenderableType:
    """What is effectively loaded, the findings, and how the space compares with the reference's."""
    build, model, playbook = result.build, result.model, result.playbook
    features = " ".join(
        name if value == "1" else f"{name}={value}" for name, value in build.features.items() if value != "0"
    )
    parameters = ", ".join(f"{name}={value}" for name, value in model.effective.items())
    settings = playbook.model
    suffixes = (
        f"query {settings.query_suffix!r}, document {settings.document_suffix!r}"
        if settings.query_suffix or settings.document_suffix
        else ""
    )
    rows = [
        ("package", f"llama-cpp-python {build.package_version}"),
        ("interpreter", f"{build.python} ({build.python_version})"),
        ("effective features", features),
        ("model", f"{model.path} ({size(model.file_bytes)})"),
        ("SHA-256", str(result.sha256)),
        ("what it is", f"{model.description}, {model.architecture}, context {model.n_ctx_train}"),
        ("dimensions", str(model.dimensions)),
        ("pooling", model.pooling + (" (guessed)" if model.pooling_is_guessed else "")),
        ("attention", model.attention or "unknown"),
        ("parameters", parameters),
        ("batches", str(result.batches) if result.batches else "not measured"),
        ("prefixes", f"query {playbook.model.query_prefix!r}, document {playbook.model.document_prefix!r}"),
        *([("suffixes", suffixes)] if suffixes else []),
        ("host CPU", f"{result.host.cpu}, {result.host.physical_cores} cores"),
        ("fingerprint", result.fingerprint),
    ]
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, Text(value))
    parts: list[RenderableType] = [grid, *findings_text(result.findings)]
    if result.corrected_requirements:
        parts.append(Text("corrected requirements:\n" + result.corrected_requirements))
    if result.reference is None:
        return Group(*parts, Text.assemble("build ", verdict(result.verdict)))
    parts.append(Text(f"reference {result.reference}"))
    if result.debug is None and result.comparison is not None and result.comparison.drift is not None:
        parts.append(Text(drift_line(result.comparison.drift)))
    parts.append(Text.assemble("vector space ", verdict(result.verdict)))
    if result.debug is not None:
        parts.append(Text(debug_line(result.debug)))
    elif result.verdict != "divergent":
        parts.append(Text(NO_RESET_NEEDED))
    return Group(*parts)


def comparison_screen(comparison: Comparison) -> RenderableType:
    """Verdict, drift, likely causes, differences."""
    parts: list[RenderableType] = [Text.assemble("vector space: ", verdict(comparison.verdict))]
    if comparison.drift is not None:
        parts.append(Text(drift_line(comparison.drift)))
    parts += findings_text(comparison.findings)
    differences = comparison.differences
    if differences:
        rows = [[d.field, _short(d.a), _short(d.b)] for d in differences[:SHOWN_DIFFERENCES]]
        parts.append(table("difference", "this side", "reference", rows=rows))
        if len(differences) > SHOWN_DIFFERENCES:
            parts.append(Text(f"and {len(differences) - SHOWN_DIFFERENCES} more (--json shows all)"))
    if comparison.verdict != "divergent":
        parts.append(Text(NO_RESET_NEEDED))
    return Group(*parts)


def drift_line(drift: SpaceDrift) -> str:
    """Return the measured drift in one line."""
    if drift.max is None:
        return f"no text has a distance: {drift.not_a_number} of {drift.texts} vectors are zero or not numbers"
    overlap = "–" if drift.top10_overlap is None else f"{drift.top10_overlap:.1%}"
    return (
        f"drift over {drift.texts} texts: max {drift.max:.2g}, mean {drift.mean:.2g}, "
        f"95 % {drift.p95:.2g}; the ten nearest neighbours overlap by {overlap}"
    )


def debug_line(debug: DebugComparison) -> str:
    """Return what three figures of one query can show, and what they cannot."""
    pairs = ", ".join(
        f"{name} {_figure(debug.own[name])} here, {_figure(debug.theirs[name])} there" for name in debug.own
    )
    return (
        f"query {debug.query!r}: {pairs}\n"
        f"figures of one query can only disprove one space (by more than {debug.bound:.3g}); "
        "a fingerprint of the backend measures it: ragops fingerprint script"
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
