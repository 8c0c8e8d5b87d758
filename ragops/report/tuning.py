"""The screen of `ragops tune`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.report.terminal import table
from ragops.report.units import number
from ragops.tuning.run import TuneResult


def tune_screen(result: TuneResult) -> RenderableType:
    """Every trial, the fastest first, with the chosen one marked."""
    chosen = result.chosen
    rows = []
    for trial in result.trials:
        is_chosen = (trial.workers, trial.threads, trial.tokens_per_batch, trial.repack) == (
            chosen.workers,
            chosen.threads,
            chosen.tokens_per_batch,
            chosen.repack,
        )
        word = "chosen" if is_chosen else f"refused: {trial.refused}" if trial.refused else ""
        rows.append(
            [
                str(trial.workers),
                str(trial.threads),
                str(trial.tokens_per_batch),
                "repacked" if trial.repack else "",
                number(trial.tokens_per_s),
                # NaN: a vector of this trial has no distance to the first trial's.
                f"{trial.drift:.1e}" if trial.drift == trial.drift else "–",
                word,
            ]
        )
    headers = ("workers", "threads", "tokens per batch", "weights", "tokens/s", "drift", "")
    end = f"stored in {result.stored_in}" if result.stored_in else "nothing was stored (--dry-run)"
    head = f"{number(result.texts)} texts of the corpus, {number(result.tokens)} tokens"
    return Group(Text(head), table(*headers, rows=rows, right=(0, 1, 2, 4, 5)), Text(end, style="dim"))
