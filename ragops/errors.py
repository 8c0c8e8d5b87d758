"""The exceptions that end a command, and their exit codes.

RagopsError                  1    a failure that the operator can act on
├── UsageError               2    the command line is wrong; nothing was changed
│   └── InvalidPlaybook      2    values that the playbook's model refuses
│       ├── PlaybookError    2    ... in a file
│       └── OverrideError    2    ... on the command line
├── NegativeVerdict          3    a gate or a comparison failed
├── PlanStale                4    the database changed between planning and acting
├── Interrupted              130 (SIGINT), 143 (SIGTERM): stopped, can be resumed
├── NothingToReset           0    the stored vectors are already correct
├── CutoverAwaited           0    a campaign ends before its cutover, until somebody asks for it
├── PlanRefused              1    the database and the playbook do not fit; nothing was changed
├── CampaignHeld             1    another controller runs the campaign
├── FenceLost                1    a claim or a campaign passed to another owner
├── DatabaseUnavailable      1    no connection, or it was lost
│   └── OutageTooLong        1    ... and did not come back within `database.max_outage_s`
│   (NoSharedMemory          1    ragops.postgres.index_builds: a parallel index build ran out of it)
├── ReferenceFailed          1    a reference endpoint failed, or its response cannot be used
├── EmbedderError            1    the embedder process could not do what was requested
│   ├── EmbedderDied         1    it ended by a signal or a crash
│   │   ├── EmbedderTimeout  1    it missed its deadline and was killed
│   │   └── (LibraryDied     1    ragops.builds.library: loading llama.cpp killed the process)
│   ├── ModelUnusable        1    the model file is missing, damaged, or not an embedding model
│   └── (TextTooLong         1    ragops.embedder.errors: a text exceeds the model's context)
└── (Unreadable              -    ragops.documents.errors: fails one document, never the command)

Those in parentheses live beside the types that they carry. A script can thus tell a wrong playbook (2)
from a negative verdict (3), a stale plan (4) and a run that was stopped and can be resumed (130, 143).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragops.findings import PlanProblem


class RagopsError(Exception):
    """A failure that the operator can act on.

    `what` is one sentence; `where` names the object; `actual` and `expected` stand against each
    other; `hint` is the next command to type or the next thing to check.
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
        """Return the error as one JSON-ready object; absent parts are left out."""
        # Scripts read these keys: the printed labels `found` and `needed` stay, whatever the fields are called.
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

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints in the list `problems`."""
        return {"path": self.path, "message": self.message, "line": self.line}


class InvalidPlaybook(UsageError):
    """Values that the playbook's model refuses; `problems` holds every one, not only the first."""

    def __init__(self, what: str, problems: Sequence[Problem], *, where: str | None = None, hint: str) -> None:
        super().__init__(what, where=where, actual="\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = tuple(problems)

    def as_dict(self) -> dict[str, object]:
        """Return the error with its problems as a list of objects."""
        return {**super().as_dict(), "problems": [problem.to_json() for problem in self.problems]}


class PlaybookError(InvalidPlaybook):
    """A playbook file is wrong."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        count = len(problems)
        what = f"the playbook has {count} problem{'s' if count != 1 else ''}"
        hint = f"fix the file, then run: ragops playbook check {file}"
        super().__init__(what, problems, where=file, hint=hint)


class OverrideError(InvalidPlaybook):
    """A value of the command line does not fit the playbook; nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "invalid value on the command line" if len(problems) == 1 else "invalid values on the command line",
            problems,
            hint="correct the option that sets this key; nothing was changed",
        )


class CutoverAwaited(RagopsError):
    """A campaign has done everything before its cutover, and waits until somebody asks for that."""

    exit_code = 0


class PlanRefused(RagopsError):
    """The database and the playbook do not fit together; nothing was changed.

    `problems` holds every reason, where there is a list of them.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        actual: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        problems: Sequence[PlanProblem] = (),
    ) -> None:
        listed = actual or "\n".join(map(str, problems)) or None
        super().__init__(what, where=where, actual=listed, expected=expected, hint=hint)
        self.problems = tuple(problems)

    def as_dict(self) -> dict[str, object]:
        """Return the error with its problems as a list of objects."""
        if not self.problems:
            return super().as_dict()
        return {**super().as_dict(), "problems": [problem.to_json() for problem in self.problems]}


class NegativeVerdict(RagopsError):
    """A gate or a comparison failed."""

    exit_code = 3


class NothingToReset(RagopsError):
    """The stored vectors are already correct; skipping the reset counts as success."""

    exit_code = 0


class PlanStale(RagopsError):
    """The database changed between planning and acting."""

    exit_code = 4


class CampaignHeld(RagopsError):
    """Another controller runs the campaign."""


class FenceLost(RagopsError):
    """A claim or a campaign passed to another owner while this one was away; its work was discarded."""


class Interrupted(RagopsError):
    """Stopped by a signal; `--resume` continues."""

    def __init__(self, what: str, *, signal_number: int = 2, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        # The convention of POSIX shells for a program that ended by a signal.
        self.exit_code = 128 + signal_number


class DatabaseUnavailable(RagopsError):
    """No connection, or the connection was lost."""


class OutageTooLong(DatabaseUnavailable):
    """An outage outlasted `database.max_outage_s`: it is not waited for again."""


class ReferenceFailed(RagopsError):
    """A reference endpoint could not be reached, refused the request, or sent an unusable response.

    `status` is the HTTP status; None if no response arrived.
    """

    status: int | None = None


class EmbedderError(RagopsError):
    """The embedder process could not do what was requested."""


class EmbedderDied(EmbedderError):
    """The embedder process ended by a signal or a crash.

    Which of its texts is to blame is unknown until the request is bisected. `returncode` is its exit status,
    negative for a signal (POSIX); None where this side ended it.
    """

    returncode: int | None = None


class EmbedderTimeout(EmbedderDied):
    """The embedder process missed its deadline and was killed."""


class ModelUnusable(EmbedderError):
    """The model file is missing, damaged, or not an embedding model."""
