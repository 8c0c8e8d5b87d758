"""What a plan does to the database, as values. `postgres.ddl` alone turns them into SQL.

The plan that `--dry-run` prints and the step that acts hold the same values, so both show and run the
same statements.
"""

from __future__ import annotations

from dataclasses import dataclass

from ragops.facts import IndexFacts, TableFacts
from ragops.playbook.model import Index


@dataclass(frozen=True, slots=True)
class DropIndex:
    index: IndexFacts


@dataclass(frozen=True, slots=True)
class ArchiveTable:
    """Copy every row into the schema `ragops`."""

    logical: str
    table: TableFacts


@dataclass(frozen=True, slots=True)
class TruncateTables:
    """One TRUNCATE for all of them: foreign keys among them then need no CASCADE."""

    tables: tuple[TableFacts, ...]


@dataclass(frozen=True, slots=True)
class DeleteRows:
    table: TableFacts


@dataclass(frozen=True, slots=True)
class VacuumTable:
    """Give the space of deleted rows back to the system; outside the transaction."""

    table: TableFacts


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """A playbook's HNSW index."""

    index: Index
    table: TableFacts
    column: str
    concurrently: bool = False


@dataclass(frozen=True, slots=True)
class RestoreIndex:
    """An index as the journal or the catalog defines it."""

    name: str
    table: TableFacts
    definition: str
    concurrently: bool = False


@dataclass(frozen=True, slots=True)
class AnalyzeTable:
    table: TableFacts


@dataclass(frozen=True, slots=True)
class SetParameter:
    """A parameter of the server for what follows: to the end of the transaction, or of a session of its own."""

    name: str
    value: str
    is_local: bool = True


Action = (
    DropIndex
    | ArchiveTable
    | TruncateTables
    | DeleteRows
    | VacuumTable
    | CreateIndex
    | RestoreIndex
    | AnalyzeTable
    | SetParameter
)
IndexBuild = CreateIndex | RestoreIndex
