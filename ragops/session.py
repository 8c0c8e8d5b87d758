"""What every command works with: target, playbook, connection, reporter, stop."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from ragops.errors import PlanRefused
from ragops.facts import DatabaseFacts, TableFacts
from ragops.playbook.model import Playbook
from ragops.postgres.catalog import Rows, read_database
from ragops.postgres.connection import Connection, Target, connect, transaction
from ragops.postgres.queue import Queue
from ragops.postgres.targets import find_targets
from ragops.reporter import NullReporter, Reporter
from ragops.row_facts import TargetFacts
from ragops.workers.database import Database, Outages
from ragops.workers.state import Stop

if TYPE_CHECKING:
    from ragops.embedder.client import Embedder
    from ragops.postgres.reader import Reader

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Session:
    """One command's surroundings; the command that opened it closes the database."""

    target: Target
    playbook: Playbook
    database: Database
    reporter: Reporter = field(default_factory=NullReporter)
    stop: Stop = field(default_factory=Stop)
    embedder_command: tuple[str, ...] | None = None
    """Another program than the embedder child, for tests."""
    trust_stored: bool = False
    """Use paths, programs and addresses that only the database names."""
    has_queue: bool = True
    """The queue can be read; false only for a command that looks and does without."""

    @classmethod
    def on(
        cls,
        connection: Connection,
        target: Target,
        playbook: Playbook,
        *,
        reporter: Reporter | None = None,
        stop: Stop | None = None,
        embedder_command: tuple[str, ...] | None = None,
    ) -> Session:
        """Return a session that works over an open connection, and opens another when that one is lost."""
        reporter, stop = reporter or NullReporter(), stop or Stop()
        outages = Outages(reporter.info, max_outage_s=playbook.database.max_outage_s)
        database = Database("controller", target, stop=stop, outages=outages, connection=connection)
        return cls(target, playbook, database, reporter, stop, embedder_command)

    @property
    def connection(self) -> Connection:
        """The session's connection as it is; one that was lost is replaced by `through_outages` alone."""
        return self.database.connection

    def through_outages(self, work: Callable[[], Result]) -> Result:
        """Run `work` on this session's connection, again after an outage, as `Database.run` does."""
        return self.database.run(lambda _: work())

    @property
    def queue(self) -> Queue:
        """The mapped queue, on this session's connection."""
        return Queue(self.connection, self.playbook.tables)

    @property
    def reader(self) -> Reader:
        """The mapped vector tables, or the first target, on this session's connection."""
        from ragops.postgres.row_reader import reader_of  # with numpy, which `ragops status` does without

        return reader_of(self.connection, self.playbook)

    def read(self, work: Callable[[Reader], Result]) -> Result:
        """Read from the vector tables, again after an outage: an hour of embedding may lie between two reads."""
        return self.through_outages(lambda: work(self.reader))

    def without(self, logical_tables: Collection[str]) -> Session:
        """Return the same session for a command that reads no row of those tables."""
        if not logical_tables:
            return self
        tables = self.playbook.tables
        # A copy without validation: the playbook's indexes and steps may name them all the same.
        mapped = {name: None for name in logical_tables if name != "files_queue"}
        playbook = self.playbook.model_copy(update={"tables": tables.model_copy(update=mapped)})
        return replace(self, playbook=playbook, has_queue=self.has_queue and "files_queue" not in logical_tables)

    def with_playbook(self, playbook: Playbook) -> Session:
        """Return the same session for another playbook."""
        return replace(self, playbook=playbook)

    def connect(self) -> Connection:
        """Open one more connection to the target. Raises DatabaseUnavailable."""
        return connect(self.target, timeout_s=self.playbook.database.connect_timeout_s)

    def facts(self, *, exact: bool = False, scans: bool = True) -> DatabaseFacts:
        """Read the database as it is now; without `scans` from the catalog alone."""
        rows = Rows.chosen(exact=exact, scans=scans)
        # An exact count is a scan of every table, which may take longer than the role's statement_timeout.
        with transaction(self.connection, is_long=True) if exact else nullcontext():
            return read_database(self.connection, self.playbook.tables, rows=rows)

    def targets(self, *, exact: bool = False, scans: bool = True) -> tuple[TargetFacts, ...]:
        """Return the facts of the playbook's targets; empty without targets.

        Raises PlanRefused with every target whose table, key or vector column does not exist.
        """
        found, problems = find_targets(
            self.connection, self.playbook.targets, rows=Rows.chosen(exact=exact, scans=scans)
        )
        if problems:
            raise PlanRefused(
                "the playbook's targets do not fit this database; nothing was changed",
                where=self.target.label,
                problems=problems,
                hint="correct targets: in the playbook, then the same command again",
            )
        return found

    def tables(self) -> dict[str, TableFacts]:
        """Return the mapped tables that exist, by their logical names."""
        return {name: table for name, table in self.facts().tables.items() if table}

    def open_embedder(self) -> Embedder:
        """Start a child that embeds a sample, perhaps beside a fleet. Raises as `Embedder` does.

        Each text alone: what shares its batch would move a vector, and a sample is compared with what is stored.
        """
        from ragops.embedder.client import Embedder
        from ragops.embedder.config import embedder_config, side_threads
        from ragops.embedder.starting import start_child

        config = embedder_config(self.playbook, threads=side_threads(), tokens_per_batch=1)
        return start_child(
            lambda: Embedder(config, command=self.embedder_command),
            on_death=lambda death: self.reporter.info(f"{death.what} while it started; starting it again"),
        )

    def with_embedder(self, work: Callable[[Embedder], Result]) -> Result:
        """Run `work` with a child as `open_embedder` starts it, again if that is killed. Raises as both do."""
        from ragops.embedder.starting import use_child

        return use_child(
            self.open_embedder,
            work,
            on_death=lambda death: self.reporter.info(f"{death.what}; going on with another one"),
        )
