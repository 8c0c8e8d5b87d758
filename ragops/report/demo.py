"""The demo's closing screen: the runbook's before/after table and what to type next."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ragops.demo.reembed import ReembedResult
from ragops.demo.run import DemoResult
from ragops.report.campaign import campaign_screen
from ragops.report.terminal import table
from ragops.report.units import duration, number, size

NEXT = (
    "ragops status",
    'ragops search "how to open a file"',
    "ragops validate --after {gate}",
    "ragops embed --workers 3",
    "ragops index rebuild",
    "ragops reset --playbook realign.yaml --dry-run",
    "ragops db stop",
)


REEMBED_NEXT = (
    "ragops cutover status --playbook reembed.yaml",
    "ragops cutover rollback --playbook reembed.yaml",
    "ragops cutover finish --playbook reembed.yaml",
    "ragops db stop",
)


def reembed_screen(told: ReembedResult) -> RenderableType:
    """The campaign, the application's answers, and what to type next."""
    answers = told.answers
    shares = f"{answers.found_before:.0%} before, {answers.found_after:.0%} after"
    commands = "\n".join(f"  RAGOPS_TABLE=public.demo_articles {line}" for line in REEMBED_NEXT[:-1])
    return Group(
        campaign_screen(told.result),
        Text(),
        Text(f"the application got {number(answers.answers)} answers, and {number(len(answers.errors))} errors"),
        *(Text(f"  {error}", style="red") for error in answers.errors[:3]),
        Text(f"the longest wait for one was {answers.longest_ms:,.0f} ms; with the row it asked for: {shares}"),
        Text(f"the whole demo took {duration(told.seconds)}"),
        Text(f"\nnext, on this database:\n{commands}\n  {REEMBED_NEXT[-1]}"),
    )


def demo_screen(demo: DemoResult) -> RenderableType:
    """The campaign, retrieval before and after it, and what to type next."""
    before, after, result = demo.before, demo.after, demo.result
    rows = [
        [f"rows under {threshold} per query", f"{count:,.1f}", f"{after.rows_under[threshold]:,.1f}"]
        for threshold, count in before.rows_under.items()
    ]
    rows.append(["finds itself at 1", f"{before.at_1:.0%}", f"{after.at_1:.0%}"])
    rows.append(["finds itself at 10", f"{before.at_10:.0%}", f"{after.at_10:.0%}"])
    rows.append(["ragops validate", demo.before_verdict, str(result.verdict)])
    rate = "–" if demo.docs_per_s is None else f"{demo.docs_per_s:.1f}"
    figures = (
        f"{number(result.completed)} documents embedded again at {rate} documents/s, "
        f"{size(result.bytes_freed)} freed; the whole demo took {duration(demo.seconds)}"
    )
    commands = "\n".join("  " + line.format(gate=demo.gate or 100) for line in NEXT)
    title = f"{before.queries} queries: first words of a document"
    return Group(
        campaign_screen(result),
        Text(),
        table(title, "before", "after", rows=rows, right=(1, 2)),
        Text(figures),
        Text(f"\nnext, on this database:\n{commands}"),
    )
