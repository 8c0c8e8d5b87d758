"""Draw the screens of `ragops build`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.builds.records import BuildRecord
from ragops.findings import Finding
from ragops.report.terminal import findings_text, table
from ragops.report.units import duration

_STYLES = {"as_asked": "green", "differs": "yellow", "unusable": "red"}
_VERDICTS = {
    "as_asked": "as requested",
    "differs": "differs from the request",
    "unusable": "this machine cannot run it",
}


def build_screen(record: BuildRecord, illegal_here: Sequence[Finding] = ()) -> RenderableType:
    """Draw one build with all findings about it; `illegal_here` are those about this machine's CPU."""
    created = record.created_at.isoformat(timespec="seconds")
    rows = [
        ["version", record.version],
        ["CMAKE_ARGS", " ".join(record.cmake_args) or "none: a native build for the machine that compiled it"],
        ["features", _features(record.features) or "unknown"],
        ["interpreter", str(record.interpreter)],
        ["built", f"{created} in {duration(record.seconds)}, {record.compiler}"],
        *[[Path(library.path).name, f"sha256 {library.sha256}"] for library in record.libraries],
    ]
    verdict = record.verdict
    title = Text.assemble((f"{record.name}: ", "bold"), (_VERDICTS[verdict], _STYLES[verdict]))
    return Group(title, table("", "", rows=rows), *findings_text([*record.findings, *illegal_here]))


def builds_screen(records: Sequence[BuildRecord], incomplete: Sequence[str], *, folder: Path) -> RenderableType:
    """Draw all builds, one line per build."""
    rows = [
        [r.name, r.version, _features(r.features), _VERDICTS[r.verdict], " ".join(r.cmake_args)] for r in records
    ]
    rows += [[name, "", "", "incomplete", ""] for name in incomplete]
    if not rows:
        return Text(f"no build in {folder}; next: ragops build install")
    return table("build", "version", "effective features", "verdict", "CMAKE_ARGS", rows=rows)


def _features(features: Mapping[str, str]) -> str:
    """Return the features in one line, with a value where it is not 1 (CUDA.ARCHS=890)."""
    return " ".join(name if value == "1" else f"{name}={value}" for name, value in features.items())
