"""What a step is: its problems, its plan and its run; and on whose behalf it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ragops.facts import DatabaseFacts, ModelFacts, TableFacts
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.steps import Step as Settings
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.statements import Statement, text_of
from ragops.session import Session

if TYPE_CHECKING:
    from ragops.indexes.plan import JournalEntry
    from ragops.workers.sizing import Sizing


class StepResult(Protocol):
    """What a step did. `to_json()` is what the ledger keeps and `--json` prints."""

    def to_json(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """Everything that planning reads. It touches neither connection nor clock nor file."""

    playbook: Playbook
    database: DatabaseFacts
    journal: Sequence[JournalEntry] = ()
    next_archive: int = 1
    """The number that the next archived table gets."""
    model: ModelFacts | None = None
    items: int | None = None
    """Size of the source, where it is known before reseeding."""
    sizing: Sizing | None = None
    """The fleet that embeds; None where no step does."""

    def table(self, logical: str) -> TableFacts:
        """Return a table that preflight has found to exist."""
        table = self.database.tables[logical]
        assert table is not None, "preflight refuses missing tables"
        return table

    def before(self, number: int) -> tuple[Settings, ...]:
        """Return the settings of the steps before step `number` (from 1)."""
        return self.playbook.steps[: number - 1]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step with what it will do. `rows` and `bytes` are those that it removes, moves or indexes."""

    number: int
    verb: str
    title: str
    settings: Settings
    statements: tuple[Statement, ...] = ()
    """What changes the database's structure or removes rows, in order."""
    rows: int | None = None
    bytes: int | None = None
    tables: tuple[str, ...] = ()
    estimate_s: float | None = None
    phase: int | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "number": self.number,
            "verb": self.verb,
            "title": self.title,
            "sql": [text_of(statement) for statement in self.statements],
            "rows": self.rows,
            "bytes": self.bytes,
            "tables": list(self.tables),
            "estimate_s": self.estimate_s,
            "phase": self.phase,
            "notes": list(self.notes),
            "settings": self.settings.model_dump(mode="json"),
        }


class Run(Protocol):
    """On whose behalf a step runs: a campaign's, with ledger and fence, or a single command's."""

    @property
    def session(self) -> Session: ...

    @property
    def campaign(self) -> int | None:
        """The campaign's id; None for a single command."""

    @property
    def force(self) -> bool:
        """Whether to reset although what is stored agrees with the workers already."""

    def transaction(
        self, *, lock_timeout_s: float | None = None, is_long: bool = False
    ) -> AbstractContextManager[object]:
        """Open a transaction. Raises FenceLost when another controller took the campaign over."""

    def record(self, result: StepResult) -> None:
        """Write the step's result into the ledger, in the caller's transaction if there is one."""

    def record_failure(self, reason: str, result: StepResult) -> None:
        """Write a step that failed, with what it measured."""

    def check_unchanged(self, now: DatabaseFacts) -> None:
        """Raise PlanStale when the database is not the one that was planned for."""

    def open_phase(self, phase: int) -> None:
        """Let workers claim items up to `phase`."""

    def renew(self, connection: Connection) -> None:
        """Extend the campaign's lease through a connection other than the session's."""


@dataclass(frozen=True, slots=True)
class SingleCommand:
    """A step that the operator runs by itself: no ledger, no fence, no plan that could have become stale."""

    session: Session
    campaign: ClassVar[int | None] = None
    force: ClassVar[bool] = False

    def transaction(
        self, *, lock_timeout_s: float | None = None, is_long: bool = False
    ) -> AbstractContextManager[object]:
        return transaction(self.session.connection, lock_timeout_s=lock_timeout_s, is_long=is_long)

    def record(self, result: StepResult) -> None: ...

    def record_failure(self, reason: str, result: StepResult) -> None: ...

    def check_unchanged(self, now: DatabaseFacts) -> None: ...

    def open_phase(self, phase: int) -> None: ...

    def renew(self, connection: Connection) -> None: ...


class Step(Protocol):
    """One verb of a playbook. A new verb is one file with such a class, and one entry in the registry."""

    def problems(self, facts: PlanFacts) -> Iterator[PlanProblem | str]:
        """Yield everything that stands in the step's way, each with its cure, before anything runs."""

    def plan(self, facts: PlanFacts, number: int) -> PlannedStep:
        """Return what the step will do as step `number` of the playbook."""

    def run(self, run: Run) -> StepResult:
        """Do what `plan` composes, planned again under the step's locks, and record it."""
