"""Questions with a proposed answer on a terminal; without one, a list of what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

from ragops.errors import RagopsError, UsageError

if TYPE_CHECKING:
    from ragops.introspection.choices import Choice
    from ragops.introspection.outcome import Decision

Value = TypeVar("Value")


def has_terminal() -> bool:
    """Return whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


@dataclass
class Questions:
    """Settles one choice after the other, and notes what was decided and what is missing."""

    accepts: bool
    """`--yes`: what is proposed is taken."""
    asks: bool = field(default_factory=has_terminal)
    decisions: list[Decision] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def settle(
        self,
        choice: Choice[Value],
        *,
        question: str,
        show: Callable[[Value], str],
        parse: Callable[[str], Value],
        options: Sequence[str] = (),
    ) -> Value | None:
        """Return the value: the operator's, a certain one, or a guess that is agreed to; None if it is missing.

        `parse` raises ValueError or RagopsError for an answer that cannot be; it is asked for again. `options` are
        proposals that can be chosen by their number.
        """
        from ragops.introspection.outcome import Decision

        value, certainty, why = choice.value, choice.certainty, choice.why
        if certainty != "given" and self.asks and not (self.accepts and value is not None):
            proposed = None if value is None else show(value)
            value, is_own = self._ask(question, value, proposed, why, parse, options)
            certainty, why = ("given", "") if is_own or certainty == "unknown" else (certainty, why)
        elif certainty == "unknown" or (choice.is_proposal and not self.accepts):
            proposal = "" if value is None else f" (proposed: {show(value)}; {why})"
            self.missing.append(f"{choice.option}: {why}" if value is None else f"{choice.option}{proposal}")
            return None
        assert value is not None, "a choice that is no longer unknown has a value"
        self.decisions.append(Decision(choice.option.lstrip("-"), show(value), certainty, why))
        return value

    def take(self, choice: Choice[Value], shown: str) -> Value:
        """Note a value that is certain, and return it."""
        from ragops.introspection.outcome import Decision

        assert choice.value is not None, "what is certain has a value"
        self.decisions.append(Decision(choice.option.lstrip("-"), shown, choice.certainty, choice.why))
        return choice.value

    def _ask(
        self,
        question: str,
        value: Value | None,
        proposed: str | None,
        why: str,
        parse: Callable[[str], Value],
        options: Sequence[str],
    ) -> tuple[Value, bool]:
        """Return the answer, and whether it is another one than the proposal."""
        if why:
            say(f"{question}: {why}")
        for number, option in enumerate(options, start=1):
            say(f"  {number}  {option}")
        while True:
            answer = ask(question, proposed)
            if value is not None and answer == proposed:
                return value, False
            if options and answer.isdecimal() and 1 <= int(answer) <= len(options):
                answer = options[int(answer) - 1]
            try:
                return parse(answer), True
            except ValueError as error:
                say(f"  {error}")
            except RagopsError as error:
                say(f"  {error.what}: {error.actual or error.expected or ''}")

    def refuse_missing(self, *, where: str) -> None:
        """Raise UsageError with everything that is missing, if anything is."""
        if self.missing:
            raise UsageError(
                "init needs to know more, and there is no terminal to ask on",
                where=where,
                expected="\n".join(self.missing),
                hint="the same command with these options; --yes accepts what is proposed",
            )


def ask(question: str, proposed: str | None = None) -> str:
    """Return what is typed on the terminal, the proposal for an empty answer. Raises Abort for Ctrl-C."""
    from ragops.report.printable import printable

    shown = printable(question) + (f" [{printable(proposed)}]" if proposed else "")
    if sys.stdout is not None and sys.stdout.isatty():
        typed = typer.prompt(shown, default="", show_default=False, err=True)
    else:
        # click would print a part of the question on stdout, which belongs to the result.
        typer.echo(f"{shown}: ", nl=False, err=True)
        typed = sys.stdin.readline()
        if not typed:
            raise typer.Abort
    return str(typed).strip() or proposed or ""


def say(line: str) -> None:
    """Print a line beside the questions."""
    from ragops.report.printable import printable

    typer.echo(printable(line), err=True)
