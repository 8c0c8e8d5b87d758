"""What a step is given: playbook, connection, the ledger if a campaign runs, and a voice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ragops.campaign.plan import Plan
from ragops.facts import DatabaseFacts, TableFacts
from ragops.indexes.plan import JournalEntry
from ragops.playbook.model import Playbook
from ragops.postgres.catalog import Rows, read_database
from ragops.postgres.connection import Connection, Target, connect, transaction
from ragops.postgres.ledger import Ledger, journaled_indexes
from ragops.reporter import NullReporter, Reporter
from ragops.workers.state import Stop

Effect = dict[str, Any]


@dataclass
class StepContext:
    """Shared by the steps of one command or one campaign."""

    target: Target
    playbook: Playbook
    connection: Connection
    reporter: Reporter = field(default_factory=NullReporter)
    stop: Stop = field(default_factory=Stop)
    ledger: Ledger | None = None
    plan: Plan | None = None
    step_number: int = 0
    force: bool = False
    """Reset although what is stored agrees already."""
    embedder_command: tuple[str, ...] | None = None
    """Another program than the embedder child."""

    _reported: set[str] = field(default_factory=set)

    def info_once(self, message: str, *, about: str | None = None) -> None:
        """Say what several steps of one command would repeat; `about` is the same where the words are not."""
        if (about or message) not in self._reported:
            self._reported.add(about or message)
            self.reporter.info(message)

    def connect(self) -> Connection:
        return connect(self.target, timeout_s=self.playbook.database.connect_timeout_s)

    def facts(self, *, exact: bool = False, scans: bool = True) -> DatabaseFacts:
        """The database as it is now; without `scans` read from the catalog alone."""
        return read_database(self.connection, self.playbook.tables, rows=Rows.chosen(exact=exact, scans=scans))

    def tables(self) -> dict[str, TableFacts]:
        """The mapped tables that exist."""
        return {name: table for name, table in self.facts().tables.items() if table}

    @property
    def campaign(self) -> int | None:
        return self.ledger.campaign if self.ledger else None

    @contextmanager
    def fenced(self, **options: Any) -> Iterator[None]:
        """A transaction; within a campaign one that holds the campaign's row."""
        if self.ledger is not None:
            with self.ledger.fenced(**options):
                yield
        else:
            with transaction(self.connection, **options):
                yield

    def record(self, effect: Effect) -> None:
        """Write the step's effect into the ledger, in the caller's transaction if there is one.

        Undo runs steps that are none of its campaign's: they have no number and leave no record.
        """
        if self.ledger is not None and self.step_number:
            self.ledger.step_done(self.step_number, effect)

    def journal(self) -> list[JournalEntry]:
        """Dropped and not yet restored indexes: the campaign's own, or all of them."""
        rows = journaled_indexes(self.connection, self.campaign)
        return [JournalEntry(r["schema"], r["name"], r["table"], r["definition"]) for r in rows]
