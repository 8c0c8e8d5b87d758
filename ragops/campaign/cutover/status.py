"""What `ragops cutover status` shows: each second column, how far it is, and what is next. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.campaign.cutover.beside import Beside, besides
from ragops.facts import quoted
from ragops.postgres.connection import transaction
from ragops.postgres.cutover_columns import count_filled, index_renames
from ragops.postgres.cutovers import knows_cutovers, waiting_notes
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class ColumnStatus:
    """One target that is written beside."""

    column: str
    """What the application reads, qualified and quoted."""
    state: str
    """As the ledger has it; `none` before the column is added."""
    other: str
    """The other column of the pair: the second one, after the cutover the former one."""
    rows: int
    """Rows of the target that have a text."""
    filled: int
    """Those of them that have a vector of the new model."""
    waiting: int
    """Noted rows that wait for their vector."""
    written_since: int
    """Rows that were written since the cutover: the former column has no vector of them."""
    indexes_ready: tuple[str, ...]
    indexes_missing: tuple[str, ...]
    next: str

    def to_json(self) -> dict[str, object]:
        return {
            "column": self.column,
            "state": self.state,
            "other": self.other,
            "rows": self.rows,
            "filled": self.filled,
            "left": self.rows - self.filled,
            "waiting": self.waiting,
            "written_since": self.written_since,
            "indexes_ready": list(self.indexes_ready),
            "indexes_missing": list(self.indexes_missing),
            "next": self.next,
        }


@dataclass(frozen=True, slots=True)
class CutoverStatus:
    columns: tuple[ColumnStatus, ...]

    def to_json(self) -> dict[str, object]:
        return {"columns": [column.to_json() for column in self.columns]}


def read_status(session: Session) -> CutoverStatus:
    """Return how far each second column is. It reads the tables, counts their rows, and waits for no lock."""
    notes = waiting_notes(session.connection) if knows_cutovers(session.connection) else {}
    with transaction(session.connection, lock_timeout_s=0.5, is_long=True):
        return CutoverStatus(tuple(_status(session, one, notes) for one in besides(session, is_added=True)))


def _status(session: Session, one: Beside, notes: dict[int, tuple[int, int]]) -> ColumnStatus:
    row, table = one.beside.row, one.table
    state = "none" if row is None or (row.state == "finished" and one.beside.new) else row.state
    waiting, kept = notes.get(row.id, (0, 0)) if row is not None else (0, 0)
    other = one.target.filled_column if row is None or not row.is_swapped else row.retired
    rows = filled = 0
    ready: list[str] = []
    missing: list[str] = []
    if one.facts.filled in table.columns:
        rows, filled = count_filled(session.connection, one.target, one.facts)
    if row is not None and other in table.columns:
        pairs, missing = index_renames(
            session.connection, table, name=one.target.embedding, second=other, ending="_old", known={}
        )
        ready = [pair.name for pair in pairs]
        if row.is_swapped:
            # The application has its indexes; those of the former column are of no concern.
            ready, missing = [*ready, *missing], []
    return ColumnStatus(
        column=one.label,
        state=state,
        other=f"{table.quoted}.{quoted(other)}" if other in table.columns else "",
        rows=rows,
        filled=filled,
        waiting=waiting,
        written_since=kept,
        indexes_ready=tuple(ready),
        indexes_missing=tuple(missing),
        next=_next(state, missing=bool(missing), waiting=waiting),
    )


def _next(state: str, *, missing: bool, waiting: int) -> str:
    match state:
        case "none":
            return "ragops reset --playbook reembed.yaml   (or your own) adds and fills the second column"
        case "filling":
            return "ragops reset --resume   goes on filling it"
        case "ready" | "rolled_back":
            return (
                "ragops index rebuild --concurrently   then: ragops cutover run"
                if missing
                else "ragops cutover run"
            )
        case "cut_over":
            again = "ragops cutover run   embeds the noted rows; then " if waiting else ""
            return f"{again}ragops cutover finish   or: ragops cutover rollback"
        case _:
            return ""
