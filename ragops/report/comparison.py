"""The screen of a comparison of two vector columns, as the ledger has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import table, verdict
from ragops.report.units import number


def comparison_screen(effect: Mapping[str, Any]) -> RenderableType:
    """Both columns of each target beside each other, and what decided."""
    parts: list[RenderableType] = []
    for target in effect.get("targets", ()):
        parts.append(
            Text.assemble(
                f"comparison of {target['table']}: ",
                verdict(target["decision"]),
                f" on {number(target['queries'])} queries, {number(target['judged'])} of them judged",
            )
        )
        k = effect["k"]
        rows = [_side(name, target[name]) for name in ("old", "new")]
        heads = ("column", "asked with", "index", f"recall@{k}", "p50 ms", "p99 ms", f"nDCG@{k}")
        parts.append(table("", *heads, rows=rows, right=(4, 5, 6, 7)))
        parts += [Text(f"    {line}", style="dim") for line in _details(target, effect)]
    return Group(*parts)


def _side(name: str, side: Mapping[str, Any]) -> list[str]:
    return [
        name,
        side["column"],
        side["queries"],
        side["index"] or "none is used",
        _number(side["recall"], 4),
        _number(side["p50_ms"], 1),
        _number(side["p99_ms"], 1),
        _number(side["ndcg"], 4),
    ]


def _details(target: Mapping[str, Any], effect: Mapping[str, Any]) -> Iterator[str]:
    for criterion in target["criteria"]:
        loss = criterion["loss"]
        if loss is None:
            yield f"{criterion['decision']}: {criterion['note']}"
        else:
            bounds = f"between {loss['lower']:.4f} and {loss['upper']:.4f} at {loss['confidence']:g} confidence"
            mean = f"{criterion['decision']}: {criterion['name']} loses {loss['mean']:.4f}"
            yield f"{mean}, {bounds}; accepted: {effect['max_loss']:g}"
    if target["overlap"] is not None:
        yield f"rows keep {target['overlap']:.0%} of their {effect['k']} nearest rows"
    source = target["source_row"]
    if source["at_1"] is not None:
        shares = f"at 1: {source['at_1']:.0%}, within {effect['k']}: {source['at_k']:.0%}"
        yield f"first words of a row find it {shares}"
    yield from target["notes"]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
