"""What a cutover, a rollback and an end of a cutover did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragops.campaign.cutover.draining import DrainResult


@dataclass(frozen=True, slots=True)
class ColumnInUse:
    """One column that the application uses from now on."""

    column: str
    """Qualified and quoted."""
    type: str
    former: str
    """What the former column is called now."""
    metrics: tuple[str, ...]
    """Operator classes of its indexes."""

    def to_json(self) -> dict[str, object]:
        return {"column": self.column, "type": self.type, "former": self.former, "indexes": list(self.metrics)}


@dataclass(frozen=True, slots=True)
class InUse:
    """What the application must use from now on."""

    model: str
    sha256: str
    dimensions: int
    pooling: str
    query_prefix: str
    document_prefix: str
    query_suffix: str
    document_suffix: str
    columns: tuple[ColumnInUse, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "sha256": self.sha256,
            "dimensions": self.dimensions,
            "pooling": self.pooling,
            "query_prefix": self.query_prefix,
            "document_prefix": self.document_prefix,
            "query_suffix": self.query_suffix,
            "document_suffix": self.document_suffix,
            "columns": [column.to_json() for column in self.columns],
        }


@dataclass(frozen=True, slots=True)
class CutOverResult:
    in_use: InUse
    locked_s: float
    """How long the tables were locked; 0 if the columns were exchanged before."""
    waiting: int
    """Noted rows that waited for their vector when the columns were exchanged."""
    drained: DrainResult
    """What was embedded after it."""
    nullable: tuple[str, ...]
    """Columns that were NOT NULL and cannot be yet, as they have NULLs."""
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "state": "cut_over",
            "use": self.in_use.to_json(),
            "locked_s": self.locked_s,
            "waiting": self.waiting,
            "drained": self.drained.to_json(),
            "nullable": list(self.nullable),
            "sql": list(self.sql),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CutOverResult:
        """Return what the ledger has of the step."""
        used = dict(stored["use"])
        columns = tuple(
            ColumnInUse(one["column"], one["type"], one["former"], tuple(one["indexes"]))
            for one in used.pop("columns")
        )
        return cls(
            InUse(**used, columns=columns),
            stored["locked_s"],
            stored["waiting"],
            DrainResult(**stored["drained"]),
            tuple(stored["nullable"]),
            tuple(stored["sql"]),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of one column that were written since the cutover."""

    column: str
    keys: tuple[str, ...]
    """As JSON arrays of the key columns, as text."""
    where: str
    """Condition for `select_rows.where` of a playbook that embeds them again with the old model."""

    def to_json(self) -> dict[str, object]:
        return {"column": self.column, "rows": len(self.keys), "keys": list(self.keys), "where": self.where}


@dataclass(frozen=True, slots=True)
class RollbackResult:
    locked_s: float
    written: tuple[Written, ...]
    """Rows whose old vector is missing, or is that of an earlier text."""
    nullable: tuple[str, ...]
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "state": "rolled_back",
            "locked_s": self.locked_s,
            "written": [one.to_json() for one in self.written],
            "nullable": list(self.nullable),
            "sql": list(self.sql),
        }
