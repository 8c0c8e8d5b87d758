"""Draw the screens of `ragops build`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import findings_text, table
from ragops.report.units import duration

_STYLES = {"as_asked": "green", "differs": "yellow", "unusable": "red"}
_VERDICTS = {
    "as_asked": "as requested",
    "differs": "differs from the request",
    "unusable": "this machine cannot run it",
}


def build_screen(build: Mapping[str, Any]) -> RenderableType:
    """Draw one build with all findings about it."""
    rows = [
        ["version", build["version"]],
        ["CMAKE_ARGS", " ".join(build["cmake_args"]) or "none: a native build for the machine that compiled it"],
        ["features", _features(build["features"]) or "unknown"],
        ["interpreter", build["interpreter"]],
        ["built", f"{build['created_at']} in {duration(build['seconds'])}, {build['compiler']}"],
        *[[Path(one["path"]).name, f"sha256 {one['sha256']}"] for one in build["libraries"]],
    ]
    verdict = build["verdict"]
    title = Text.assemble((f"{build['name']}: ", "bold"), (_VERDICTS[verdict], _STYLES[verdict]))
    findings = [*build["findings"], *build.get("illegal_here", ())]
    return Group(title, table("", "", rows=rows), *findings_text(findings))


def builds_screen(result: Mapping[str, Any]) -> RenderableType:
    """Draw all builds, one line per build."""
    rows = [
        [b["name"], b["version"], _features(b["features"]), _VERDICTS[b["verdict"]], " ".join(b["cmake_args"])]
        for b in result["builds"]
    ]
    rows += [[name, "", "", "incomplete", ""] for name in result["incomplete"]]
    if not rows:
        return Text(f"no build in {result['folder']}; next: ragops build install")
    return table("build", "version", "effective features", "verdict", "CMAKE_ARGS", rows=rows)


def _features(features: Mapping[str, str]) -> str:
    """Return the features in one line, with a value where it is not 1 (CUDA.ARCHS=890)."""
    return " ".join(name if value == "1" else f"{name}={value}" for name, value in features.items())
