"""Choose what a playbook says: what is certain, what is a guess and why, and what has to be asked.

A guess is taken only where an operator can see and refuse it: on a terminal, or with `--yes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ragops.introspection.clients import Recognised
from ragops.introspection.texts import TextChoice, likeliest_text
from ragops.playbook.names import TableName
from ragops.survey_facts import Group, Survey, VectorColumn, VectorSurvey

Value = TypeVar("Value")
Campaign = Literal["repair", "reembed", "realign"]
# A column with more different values divides a table into no groups worth a target.
MOST_GROUPS = 50
CAMPAIGNS: tuple[Campaign, ...] = ("repair", "reembed", "realign")
Certainty = Literal["given", "sure", "measured", "guess", "unknown"]
# Columns that say by which model a row was embedded.
MODEL_COLUMNS = ("model", "model_name", "model_id", "embedding_model", "embedding_model_id", "embed_model")
# Columns that divide a table into parts that somebody may want to treat alone.
GROUP_COLUMNS = (
    *("collection_id", "collection_name", "collection", "namespace", "dataset_id", "knowledge_id", "kb_id"),
    *("tenant_id", "tenant", "workspace_id", "organization_id", "org_id", "language", "lang", "source_type"),
)


@dataclass(frozen=True, slots=True)
class Choice(Generic[Value]):
    """A value of the playbook, how certain it is, and why."""

    option: str
    """What sets it, e.g. `--text`."""
    value: Value | None
    certainty: Certainty
    why: str = ""
    """Of an unknown one: what is needed."""

    @property
    def is_proposal(self) -> bool:
        """Return whether somebody has to agree first."""
        return self.certainty == "guess"


def matching(columns: Sequence[VectorColumn], table: str | None, column: str | None) -> list[VectorColumn]:
    """Return the vector columns that `--table` and `--column` mean. Raises ValueError for no name."""
    found = list(columns)
    if table is not None:
        name = TableName.parse(table)
        found = [c for c in found if c.relation == name.name and name.schema in (None, c.schema)]
    return [c for c in found if column in (None, c.name)]


def choose_text(survey: Survey, recognised: Recognised | None) -> Choice[TextChoice]:
    """Return the text that the table's client embeds, or the one that names and lengths speak for."""
    if recognised is not None and recognised.text is not None:
        certainty: Certainty = "sure" if recognised.is_certain else "guess"
        why = f"{recognised.client} embeds it" + (f"; {recognised.doubt}" if recognised.doubt else "")
        return Choice("--text", recognised.text, certainty, why)
    if recognised is not None and recognised.doubt:
        return Choice("--text", None, "unknown", f"{recognised.client}: {recognised.doubt}")
    if (guess := likeliest_text(survey)) is not None:
        return Choice("--text", guess, "guess", guess.why)
    return Choice(
        "--text",
        None,
        "unknown",
        "the text that the vectors are made of: '{column}', several columns as in '{title}\\n\\n{body}', "
        "or --sql EXPRESSION, e.g. \"metadata->>'text'\"",
    )


def choose_key(survey: Survey) -> Choice[tuple[str, ...]]:
    """Return the columns that identify a row, as the catalog has them."""
    if survey.key:
        is_primary = any(key.is_primary and key.columns == survey.key for key in survey.keys)
        why = "the primary key" if is_primary else "a unique index over NOT NULL columns"
        return Choice("--key", survey.key, "sure", why)
    return Choice(
        "--key",
        None,
        "unknown",
        "columns that are NOT NULL and together unique, so that a row is found again: the table has no primary "
        "key and no unique index over NOT NULL columns",
    )


def group_columns(survey: Survey, recognised: Recognised | None) -> tuple[str, ...]:
    """Return the columns that may divide the table, those that decide first."""
    lower = {name.lower(): name for name in survey.columns}
    named = [recognised.group] if recognised is not None and recognised.group else []
    named += [lower[name] for name in (*MODEL_COLUMNS, *GROUP_COLUMNS) if name in lower]
    readable = [name for name in dict.fromkeys(named) if name in survey.columns and survey.columns[name].may_read]
    # Counting takes a scan. One value in the sampled rows may still be one of several.
    return tuple(
        name
        for name in readable
        if survey.columns[name].distinct * 2 <= max(survey.sampled, 2)
        and (survey.different(name) or 0) <= MOST_GROUPS
    )


def choose_where(
    vector: VectorColumn,
    vectors: VectorSurvey,
    groups: Sequence[Group],
    recognised: Recognised | None,
    campaign: Campaign | None,
) -> Choice[tuple[str, ...]]:
    """Return the conditions of the targets, one a target; none for every row."""
    every: tuple[str, ...] = ()
    is_mixed = len(vectors.dimensions) > 1 or len({size for g in groups for size in g.dimensions}) > 1
    if is_mixed:
        sizes = " and ".join(str(size) for size in sorted(vectors.dimensions))
        by_group = "; ".join(f"{_described(group)}: {group.where}" for group in groups if group.dimensions)
        return Choice(
            "--where",
            None,
            "unknown",
            f"{vector.quoted} holds vectors of {sizes or 'several'} dimensions, and a playbook has one model: the "
            f"condition for the rows of one of them ({by_group or 'vector_dims(…) = …'})",
        )
    if groups and groups[0].column.lower() in MODEL_COLUMNS:
        return Choice(
            "--where",
            None,
            "unknown",
            f"the rows were embedded by several models, says {groups[0].column} "
            f"({', '.join(_described(group) for group in groups)}), and a playbook has one: the condition for the "
            f"rows of one of them, e.g. {groups[0].where}; or true for every row",
        )
    if groups and recognised is not None and groups[0].column == recognised.group:
        listed = ", ".join(_described(group) for group in groups)
        if campaign == "repair":
            return Choice(
                "--where",
                tuple(group.where for group in groups),
                "sure",
                f"one target for each collection: {listed}",
            )
        return Choice(
            "--where", every, "sure", f"a second column belongs to one target, so that it has all of {listed}"
        )
    if groups:
        listed = ", ".join(_described(group) for group in groups[:6])
        return Choice("--where", every, "sure", f"every row; {groups[0].column} would divide them: {listed}")
    return Choice("--where", every, "sure", "every row of the table")


def _described(group: Group) -> str:
    sizes = f" of {' and '.join(map(str, group.dimensions))} dimensions" if group.dimensions else ""
    return f"{group.label} ({group.rows:,} rows{sizes})"


def choose_campaign(vectors: VectorSurvey, vector: VectorColumn, dimensions: int | None) -> Choice[Campaign]:
    """Return the campaign that fits what is stored. `dimensions` are the model's, if one is named."""
    declared = vector.dimensions
    stored = set(vectors.dimensions)
    if dimensions is not None and dimensions not in (stored or {declared or dimensions}):
        sizes = " and ".join(map(str, sorted(stored))) or str(declared)
        return Choice(
            "--campaign",
            "reembed",
            "guess",
            f"the model has {dimensions} dimensions, the stored vectors have {sizes}",
        )
    if vectors.missing or vectors.broken:
        found = []
        if vectors.missing:
            found.append("rows without a vector")
        if vectors.broken:
            found.append("vectors that are zero or not finite")
        return Choice("--campaign", "repair", "guess", f"there are {' and '.join(found)}")
    return Choice(
        "--campaign",
        "repair",
        "guess",
        "no vector is missing or broken in the sampled rows; reembed if another model is to make all of them",
    )
