"""What the operator has seen and confirmed: the database, and the tables with their rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ragops.errors import PlanStale
from ragops.facts import DatabaseFacts

CHECK_AGAIN = "stop what writes there, then run the same command again: it shows the new numbers"
RESUME = "stop what writes there, then: ragops reset --resume   (it shows the new numbers and asks)"


@dataclass(frozen=True, slots=True)
class PlannedTable:
    oid: int
    rows: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The state of the database that a plan was made for."""

    database: str
    database_oid: int
    tables: Mapping[str, PlannedTable] = field(default_factory=dict)
    """By logical name; wiping anything larger is refused."""

    @classmethod
    def of(cls, facts: DatabaseFacts) -> Confirmed:
        """Return the state that `facts` show."""
        tables = {name: PlannedTable(table.oid, table.rows) for name, table in facts.tables.items() if table}
        return cls(facts.server.database, facts.server.database_oid, tables)

    @classmethod
    def from_json(cls, plan: Mapping[str, object]) -> Confirmed | None:
        """Return the state that a plan of the ledger was made for; None if it cannot be read."""
        tables = plan.get("tables")
        database, oid = plan.get("database"), plan.get("database_oid")
        if not (isinstance(tables, Mapping) and isinstance(database, str) and isinstance(oid, int)):
            return None
        return cls(database, oid, {name: PlannedTable(t["oid"], t["rows"]) for name, t in tables.items()})

    def changes(self, now: DatabaseFacts, names: Iterable[str]) -> list[str]:
        """Return in words what is another or more than was confirmed, for the tables `names`."""
        changes = []
        if now.server.database != self.database:
            changes.append(f"the database is {now.server.database}, planned for {self.database}")
        elif now.server.database_oid != self.database_oid:
            changes.append(f"{now.server.database} is another database of that name: made again, or restored")
        for name in names:
            planned, table = self.tables.get(name), now.tables.get(name)
            if planned is None and table is None:
                continue
            if planned is None or table is None or table.oid != planned.oid:
                held = f"{table.rows:,} rows now" if table else "there is none now"
                changes.append(
                    f"{name} was replaced by another table: {held}, planned {planned.rows if planned else 0:,}"
                )
            elif table.rows > planned.rows:
                changes.append(f"{table.qualified} holds {table.rows:,} rows, planned {planned.rows:,}")
        return changes

    def check(self, now: DatabaseFacts, names: Iterable[str], *, done: str, hint: str) -> None:
        """Raise PlanStale when one of the tables `names` is not what was confirmed.

        `done` says what happened before the check, `hint` what to type next.
        """
        changes = self.changes(now, names)
        if changes:
            raise PlanStale(
                f"the database changed since the plan was made; {done}",
                where=now.server.database,
                actual="\n".join(changes),
                hint=hint,
            )
