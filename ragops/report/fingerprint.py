"""Screens of verification, of fingerprints and of their comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ragops.report.terminal import findings_text, table, verdict
from ragops.report.units import size

SHOWN_DIFFERENCES = 20


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


def verify_screen(effect: Mapping[str, Any]) -> RenderableType:
    effective = effect["effective"]
    build, model = effective["build"], effective["model"]
    features = " ".join(
        name if value == "1" else f"{name}={value}" for name, value in build["features"].items() if value != "0"
    )
    parameters = ", ".join(f"{name}={value}" for name, value in model["effective"].items())
    rows = [
        ("package", f"llama-cpp-python {build['package_version']}"),
        ("interpreter", f"{build['python']} ({build['python_version']})"),
        ("effective features", features),
        ("model", f"{model['path']} ({size(model['file_bytes'])})"),
        ("SHA-256", model["sha256"]),
        ("what it is", f"{model['description']}, {model['architecture']}, context {model['n_ctx_train']}"),
        ("dimensions", str(model["dimensions"])),
        ("pooling", model["pooling"]),
        ("parameters", parameters),
        ("prefixes", f"query {effective['query_prefix']!r}, document {effective['document_prefix']!r}"),
        ("host CPU", f"{effect['host']['cpu']}, {effect['host']['physical_cores']} cores"),
        ("fingerprint", effect["fingerprint"]),
    ]
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, Text(value))
    parts: list[RenderableType] = [grid, *findings_text(effect["findings"])]
    if effect.get("corrected_requirements"):
        parts.append(Text("corrected requirements:\n" + effect["corrected_requirements"]))
    if effect.get("reference"):
        parts.append(Text(f"reference {effect['reference']}"))
        if effect["drift"]:
            parts.append(Text(drift_line(effect["drift"])))
        parts.append(Text.assemble("vector space ", verdict(effect["verdict"])))
        if effect.get("distances"):
            parts.append(Text(debug_line(effect["distances"])))
        elif effect["verdict"] != "divergent":
            parts.append(Text(no_reset_needed()))
        return Group(*parts)
    return Group(*parts, Text.assemble("build ", verdict(effect["verdict"])))


def comparison_screen(result: Mapping[str, Any]) -> RenderableType:
    """Verdict, drift, likely causes, differences."""
    parts: list[RenderableType] = [Text.assemble("vector space: ", verdict(result["verdict"]))]
    if result["drift"]:
        parts.append(Text(drift_line(result["drift"])))
    parts += findings_text(result["findings"])
    differences = result.get("differences") or []
    if differences:
        rows = [[d["field"], _short(d["a"]), _short(d["b"])] for d in differences[:SHOWN_DIFFERENCES]]
        parts.append(table("difference", "this side", "reference", rows=rows))
        if len(differences) > SHOWN_DIFFERENCES:
            parts.append(Text(f"and {len(differences) - SHOWN_DIFFERENCES} more (--json shows all)"))
    if result["verdict"] != "divergent":
        parts.append(Text(no_reset_needed()))
    return Group(*parts)


def drift_line(drift: Mapping[str, Any]) -> str:
    """The measured drift in one line."""
    if drift["max"] is None:
        return f"no text has a distance: {drift['not_a_number']} of {drift['texts']} vectors are no vectors"
    overlap = "–" if drift["top10_overlap"] is None else f"{drift['top10_overlap']:.1%}"
    return (
        f"drift over {drift['texts']} texts: max {drift['max']:.2g}, mean {drift['mean']:.2g}, "
        f"95 % {drift['p95']:.2g}; neighbours at 10 overlap by {overlap}"
    )


def debug_line(distances: Mapping[str, Any]) -> str:
    """What three figures of one query can say, and what they cannot."""
    own, theirs = distances["own"], distances["reference"]
    pairs = ", ".join(f"{name} {_figure(own[name])} here, {_figure(theirs[name])} there" for name in own)
    return (
        f"query {distances['query']!r}: {pairs}\n"
        f"figures of one query can only disprove one space (by more than {distances['bound']:.3g}); "
        "a fingerprint of the backend measures it: ragops fingerprint script"
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def no_reset_needed() -> str:
    """What to look at when the space is the right one."""
    return (
        "no reset is needed for the build: both sides make one vector space.\n"
        "look instead at what is stored (ragops validate), at the indexes (ragops index status), at a\n"
        "selective WHERE with HNSW (hnsw.iterative_scan, hnsw.ef_search) and at the application's threshold"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
