"""Gather what is known of one vector column before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragops.facts import quoted
from ragops.introspection.choices import MOST_GROUPS, group_columns
from ragops.introspection.clients import Recognised, recognise
from ragops.playbook.targets import RowTarget
from ragops.postgres.introspected_rows import read_groups, read_vector_indexes, read_vectors
from ragops.postgres.introspection import survey, unlocked
from ragops.session import Session
from ragops.survey_facts import Group, IndexSurvey, Survey, VectorColumn, VectorSurvey


@dataclass(frozen=True, slots=True)
class Gathered:
    """One vector column and its table."""

    survey: Survey
    vector: VectorColumn
    vectors: VectorSurvey
    indexes: tuple[IndexSurvey, ...]
    groups: tuple[Group, ...]
    recognised: Recognised | None

    @property
    def others(self) -> tuple[VectorColumn, ...]:
        """Return the other vector columns of the table."""
        return tuple(one for one in self.survey.vectors if one.name != self.vector.name)

    def describe(self) -> str:
        """Return the column and its rows in words."""
        rows = self.survey.table.rows
        seen = self.vectors
        parts = [f"{self.vector.quoted}, {self.vector.type}", f"{rows:,} rows" if rows else "no rows"]
        if seen.sampled:
            sizes = " and ".join(str(size) for size in sorted(seen.dimensions))
            if self.vector.dimensions is None and sizes:
                parts.append(f"vectors of {sizes} dimensions")
            parts.append("rows without a vector" if seen.missing else "none missing in the sample")
            if seen.broken:
                parts.append(f"{seen.broken:,} of {seen.sampled:,} zero or not finite")
        return ", ".join(parts)


def gather(session: Session, vectors: Sequence[VectorColumn], vector: VectorColumn) -> Gathered:
    """Read everything about a vector column. `vectors` are all of its table. Raises as `survey`."""

    def read() -> Gathered:
        found = survey(session.connection, vectors)
        recognised = recognise(found)
        return Gathered(
            survey=found,
            vector=vector,
            vectors=read_vectors(session.connection, found.table, vector),
            indexes=read_vector_indexes(session.connection, found.table, vector.name),
            groups=read_groups(
                session.connection, found, group_columns(found, recognised), vector, most=MOST_GROUPS
            ),
            recognised=recognised,
        )

    with unlocked(vector.table):
        return session.through_outages(read)


def untouched(gathered: Gathered, target: RowTarget | None) -> list[str]:
    """Return in words what a campaign leaves as it is, and what may move all the same."""
    survey, vector = gathered.survey, gathered.vector
    if target is None:
        return []
    others = [quoted(name) for name in survey.columns if name != vector.name]
    found = [
        f"rows of {survey.table.quoted}: none is inserted, deleted or renumbered",
        f"its other {len(others)} columns ({_some(others)})",
    ]
    if gathered.others:
        named = ", ".join(one.quoted for one in gathered.others)
        found.append(f"the other vector columns: {named} (one entry each under targets:, if they are to follow)")
    if gathered.groups and target.where:
        found.append(f"rows outside of its condition ({target.where})")
    return found


def warnings(gathered: Gathered) -> list[str]:
    """Return in words what the table has that an update of its vectors may meet."""
    survey = gathered.survey
    found: list[str] = []
    fired = [str(trigger) for trigger in survey.structure.triggers if "UPDATE" in trigger.events]
    if fired:
        found.append(f"{_some(fired)}: triggers: says what becomes of it where it fires when vectors are updated")
    if survey.is_row_security_active:
        found.append("row-level security hides rows from this role: only visible ones are seen and written")
    if survey.views:
        found.append(f"views that read the table: {_some(survey.views)}; the plan says what becomes of them")
    if survey.table.is_partitioned:
        found.append(f"the table has {len(survey.table.partitions):,} partitions; each is written where it is")
    if survey.structure.children:
        found.append(
            f"tables inherit from it ({_some(survey.structure.children)}): their rows are not the table's own"
        )
    if survey.structure.published:
        names = sorted({name for names in survey.structure.published.values() for name in names})
        found.append(f"publications that replicate the updates: {_some(names)}")
    found += [f"index {one.name} is not valid" for one in gathered.indexes if not one.is_valid]
    return found


def _some(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
