"""The screen of `ragops tune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import table
from ragops.report.units import number


def tune_screen(result: Mapping[str, Any]) -> RenderableType:
    """Return a table of all trials, the fastest first, with the chosen one marked."""
    chosen = result["chosen"]
    rows = []
    for trial in result["trials"]:
        # The chosen sizing has no speed; it is the trial with the same values.
        is_chosen = all(trial[name] == chosen[name] for name in chosen)
        word = "chosen" if is_chosen else f"refused: {trial['refused']}" if trial["refused"] else ""
        sizing = [str(trial[name]) for name in ("workers", "threads", "tokens_per_batch")]
        drift = "–" if trial["drift"] is None else f"{trial['drift']:.1e}"
        rows.append([*sizing, "repacked" if trial["repack"] else "", number(trial["tokens_per_s"]), drift, word])
    headers = ("workers", "threads", "tokens per batch", "weights", "tokens/s", "drift", "")
    end = f"stored in {result['stored_in']}" if result["stored_in"] else "nothing was stored (--dry-run)"
    head = f"{number(result['texts'])} texts of the corpus, {number(result['tokens'])} tokens"
    return Group(Text(head), table(*headers, rows=rows, right=(0, 1, 2, 4, 5)), Text(end, style="dim"))
