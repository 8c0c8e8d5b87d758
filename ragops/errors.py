"""The error tree: every error says what, where, actual against expected, and what to type next.

The exit code belongs to the class, so that a script can tell a wrong playbook (2) from a
negative verdict (3), a stale plan (4) and a run that was stopped and can be resumed (130, 143).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class RagopsError(Exception):
    """A failure that the operator can act on.

    `what` is one sentence; `where` names the object; `actual` and `expected` stand against each
    other; `hint` is the next command to type or the next thing to look at.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        actual: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.actual = actual
        self.expected = expected
        self.hint = hint

    def as_dict(self) -> dict[str, object]:
        """The error as one JSON-ready object; absent parts are left out."""
        parts = {
            "what": self.what,
            "where": self.where,
            "found": self.actual,
            "needed": self.expected,
            "hint": self.hint,
        }
        return {name: value for name, value in parts.items() if value is not None}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its class if it has no message."""
    # The server's messages go on with DETAIL, HINT and the statement, which do not fit into one line of output.
    return next((line for line in str(error).splitlines() if line), type(error).__name__)


class UsageError(RagopsError):
    """The command line is wrong; nothing was changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a playbook, and its place (`steps[3].validate.after`, line 41)."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class PlaybookError(UsageError):
    """A playbook is wrong; `problems` holds every finding, not only the first."""

    def __init__(self, file: str, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        count = len(problems)
        super().__init__(
            f"the playbook has {count} problem{'s' if count != 1 else ''}",
            where=file,
            actual="\n".join(str(problem) for problem in problems),
            hint=hint or f"mend the file, then: ragops playbook check {file}",
        )
        self.problems = tuple(problems)

    def as_dict(self) -> dict[str, object]:
        """The error with its problems as a list of objects."""
        listed = [{"path": p.path, "message": p.message, "line": p.line} for p in self.problems]
        return {**super().as_dict(), "problems": listed}


class PlanRefused(RagopsError):
    """The database as it is cannot take the playbook as it is; nothing was changed."""


class NegativeVerdict(RagopsError):
    """A gate or a comparison came out negative."""

    exit_code = 3


class NothingToReset(RagopsError):
    """What is stored is right already: not wiping it is the success."""

    exit_code = 0


class PlanStale(RagopsError):
    """The database changed between planning and acting."""

    exit_code = 4


class CampaignHeld(RagopsError):
    """Another controller holds the campaign."""


class FenceLost(RagopsError):
    """A claim or a campaign passed to another holder while this one was away; its work was dropped."""


class Interrupted(RagopsError):
    """Stopped by a signal; `--resume` goes on."""

    def __init__(self, what: str, *, signal_number: int = 2, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = 128 + signal_number


class DatabaseUnavailable(RagopsError):
    """No connection, or the connection was lost."""


class EmbedderError(RagopsError):
    """The embedder child could not do what was asked."""


class EmbedderDied(EmbedderError):
    """The embedder child ended by a signal or a crash; its texts are not to blame until bisected."""


class EmbedderTimeout(EmbedderDied):
    """The embedder child did not answer before its deadline and was killed."""


class ModelUnusable(EmbedderError):
    """The model file is missing, damaged, or no embedding model."""
