"""What a step is: its problems, its plan and its run; and on whose behalf it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from ragops.beside_facts import BesideFacts
from ragops.campaign.confirmed import CHECK_AGAIN, Confirmed
from ragops.documents.left_out import LeftOut
from ragops.errors import CampaignHeld
from ragops.facts import DatabaseFacts, ModelFacts, SourceFacts, SpaceFacts, TableFacts
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.steps import Step as Settings
from ragops.postgres.connection import Connection, transaction
from ragops.postgres.ledger import check_free, latest_campaign, lock_campaigns
from ragops.postgres.statements import Statement, text_of
from ragops.row_facts import TargetFacts
from ragops.session import Session

if TYPE_CHECKING:
    from ragops.indexes.plan import JournalEntry
    from ragops.workers.sizing import Sizing

NOTHING_DONE = "nothing was changed"
# What to type after a failed gate: what is stored fails the same check again, until it is corrected.
FAILED_GATE = (
    "ragops undo   (the old rows come back) or, with the cause fixed: ragops reset --new   or, if the stored rows "
    "were corrected: ragops reset --resume   (it checks them again)"
)


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
    left_out: LeftOut = field(default_factory=LeftOut)
    """What the source has and cannot be queued."""
    source: SourceFacts | None = None
    """Of a source that is a table or a query; None for files, and where no step needs it any more."""
    space: SpaceFacts | None = None
    """None: not looked at."""
    sizing: Sizing | None = None
    """The fleet that embeds; None where no step does."""
    targets: tuple[TargetFacts, ...] = ()
    """The playbook's targets; empty for a campaign that empties and refills."""
    besides: tuple[BesideFacts, ...] = ()
    """Those of them that are written beside."""
    selected: Mapping[int, int] = field(default_factory=dict)
    """By the number of a target: the rows that `select_rows` would queue now."""
    next_vector_archive: int = 1
    """The number that the next table gets which keeps replaced vectors."""

    def table(self, logical: str) -> TableFacts:
        """Return a table that preflight has found to exist."""
        table = self.database.tables[logical]
        assert table is not None, "preflight refuses missing tables"
        return table

    @property
    def dimensions(self) -> int | None:
        """Those of the vectors that the model makes; None where that is not known yet."""
        return self.model.dimensions if self.model else self.playbook.model.dimensions

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
    writes_bytes: int | None = None
    """About what it writes to the server's disk, for an operator who has to make room; None: not known."""

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

    def note(self, intended: StepResult) -> None:
        """Write what the step is about to do, for what follows if it is killed before it records its result."""

    def noted(self) -> Mapping[str, object]:
        """Return what an interrupted run of the same step noted; empty without one."""

    @property
    def emptied_later(self) -> tuple[str, ...]:
        """The tables, by logical name, that later steps of the campaign empty."""

    def check_unchanged(self, now: DatabaseFacts, names: Sequence[str], *, done: str = NOTHING_DONE) -> None:
        """Raise PlanStale when the tables `names` are not what was planned for; `done` is what happened so far."""

    def open_phase(self, phase: int) -> None:
        """Let workers claim items up to `phase`."""

    def renew(self, connection: Connection) -> None:
        """Extend the campaign's lease through a connection other than the session's."""


@dataclass(frozen=True, slots=True)
class SingleCommand:
    """A step that the operator runs by itself: no ledger, no fence."""

    session: Session
    confirmed: Confirmed | None = None
    """What the operator has confirmed; None for a command that asks for nothing."""
    newest_campaign: int | None = None
    """The newest campaign when that was confirmed."""
    campaign: ClassVar[int | None] = None
    emptied_later: ClassVar[tuple[str, ...]] = ()
    force: ClassVar[bool] = False

    def transaction(
        self, *, lock_timeout_s: float | None = None, is_long: bool = False
    ) -> AbstractContextManager[object]:
        return self._transaction(lock_timeout_s, is_long)

    @contextmanager
    def _transaction(self, lock_timeout_s: float | None, is_long: bool) -> Iterator[None]:
        with transaction(self.session.connection, lock_timeout_s=lock_timeout_s, is_long=is_long):
            if self.confirmed is not None:
                self._keep_campaigns_out()
            yield

    def _keep_campaigns_out(self) -> None:
        """Let no campaign start until the transaction ends. Raises CampaignHeld when one started meanwhile."""
        connection = self.session.connection
        lock_campaigns(connection)
        row = latest_campaign(connection, self.session.playbook.tables)
        if row is None or row.is_finished:
            return
        check_free(row)
        if row.id != self.newest_campaign:
            raise CampaignHeld(
                f"campaign {row.id} was started meanwhile; nothing was changed", hint="ragops status"
            )

    def record(self, result: StepResult) -> None: ...

    def record_failure(self, reason: str, result: StepResult) -> None: ...

    def note(self, intended: StepResult) -> None: ...

    def noted(self) -> Mapping[str, object]:
        return {}

    def check_unchanged(self, now: DatabaseFacts, names: Sequence[str], *, done: str = NOTHING_DONE) -> None:
        if self.confirmed is not None:
            self.confirmed.check(now, names, done=done, hint=CHECK_AGAIN)

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
