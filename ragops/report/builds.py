"""Screens of `ragops build`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import table
from ragops.report.units import duration

_STYLES = {"error": "red", "warning": "yellow", "info": "dim", "as_asked": "green", "differs": "yellow"}
_VERDICTS = {
    "as_asked": "as asked for",
    "differs": "differs from what was asked for",
    "unusable": "this machine cannot run it",
}


def build_screen(build: Mapping[str, Any]) -> RenderableType:
    """One build with all that was found about it."""
    rows = [
        ["version", build["version"]],
        ["CMAKE_ARGS", " ".join(build["cmake_args"]) or "none: made for the machine that compiled it"],
        ["features", _features(build["features"]) or "unknown"],
        ["interpreter", build["interpreter"]],
        ["made", f"{build['created_at']} in {duration(build['seconds'])}, {build['compiler']}"],
        *[[Path(one["path"]).name, f"sha256 {one['sha256']}"] for one in build["libraries"]],
    ]
    verdict = build["verdict"]
    title = Text.assemble((f"{build['name']}: ", "bold"), (_VERDICTS[verdict], _STYLES.get(verdict, "red")))
    findings = [*build["findings"], *build.get("illegal_here", ())]
    return Group(title, table("", "", rows=rows), *_findings(findings))


def builds_screen(result: Mapping[str, Any]) -> RenderableType:
    """All builds, a line each."""
    rows = [
        [b["name"], b["version"], _features(b["features"]), _VERDICTS[b["verdict"]], " ".join(b["cmake_args"])]
        for b in result["builds"]
    ]
    rows += [[name, "", "", "incomplete", ""] for name in result["incomplete"]]
    if not rows:
        return Text(f"no build in {result['folder']}; next: ragops build install")
    return table("build", "version", "effective features", "verdict", "CMAKE_ARGS", rows=rows)


def _features(features: Mapping[str, str]) -> str:
    return " ".join(name if value == "1" else f"{name}={value}" for name, value in features.items())


def _findings(findings: list[Mapping[str, str]]) -> list[Text]:
    lines = []
    for finding in findings:
        line = Text.assemble((f"{finding['severity']}: ", _STYLES[finding["severity"]]), finding["message"])
        if finding["hint"]:
            line.append(f"\n  next: {finding['hint']}", style="dim")
        lines.append(line)
    return lines
