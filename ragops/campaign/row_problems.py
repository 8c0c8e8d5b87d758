"""What stands in the way of writing vectors into rows that stay: from facts alone, each with its cure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ragops.campaign.privileges import table_privilege_problems
from ragops.campaign.steps.base import PlanFacts
from ragops.facts import quoted
from ragops.findings import PlanProblem
from ragops.playbook.steps import DropIndexes, RebuildIndexes
from ragops.playbook.targets import RowTarget
from ragops.postgres.targets import columns_read
from ragops.row_facts import TargetFacts

# What pgvector's HNSW and IVFFlat take: https://github.com/pgvector/pgvector#hnsw
INDEXED = {"vector": 2000, "halfvec": 4000}
# Of which a column may be: https://github.com/pgvector/pgvector#reference
STORED = 16_000
WRITABLE = ("vector", "halfvec")
_CAST = re.compile(r"::(?:\w+\.|\"[^\"]+\"\.)?(?:vector|halfvec)\((\d+)\)")
MAX_NAME = 63


def model_dimensions(facts: PlanFacts) -> int | None:
    """Return the length of the vectors that the campaign makes; None while no model was asked."""
    declared = facts.playbook.model.dimensions
    return declared if declared is not None else facts.model.dimensions if facts.model else None


def row_problems(facts: PlanFacts) -> Iterator[PlanProblem]:
    """Yield why the vectors of a target cannot be written, as far as the catalog says it."""
    for found in facts.targets:
        target = facts.playbook.targets[found.number - 1]
        yield from _table(found)
        yield from _column(found)
        yield from _privileges(facts, target, found)
        yield from _triggers(facts, target, found)
        yield from _dimensions(facts, target, found)
        if target.write == "beside":
            yield from _second_column(facts, target, found)


def place_of(found: TargetFacts) -> str:
    """Return a target in words, e.g. `kb.articles (targets[0])`."""
    return f"{found.table.quoted} (targets[{found.number - 1}])"


def column_of(found: TargetFacts) -> str:
    """Return the vector column that the application reads, as SQL names it."""
    return f"{found.table.quoted}.{quoted(found.embedding)}"


def _table(found: TargetFacts) -> Iterator[PlanProblem]:
    table = found.table
    for child in found.structure.children:
        yield PlanProblem(
            f"table {child} inherits from {place_of(found)}: an UPDATE reaches its rows, too, and a key "
            "identifies "
            "the rows of one table only",
            f"ALTER TABLE {child} NO INHERIT {table.quoted}",
        )
    for partition in found.foreign_partitions:
        yield PlanProblem(
            f"partition {partition} of {place_of(found)} is a foreign table, whose rows cannot be written safely",
            f"ALTER TABLE {table.quoted} DETACH PARTITION {partition}",
        )
    for rule in found.rules:
        name, _, on = rule.rpartition(" on ")
        yield PlanProblem(
            f"rule {rule} rewrites every UPDATE of {place_of(found)}", f"ALTER TABLE {on} DISABLE RULE {name}"
        )
    publications = found.structure.published.get("UPDATE", ())
    if publications and found.structure.without_identity:
        yield PlanProblem(
            f"{table.quoted} is in publication {', '.join(publications)}, which forbids UPDATE "
            "without a replica identity (a primary key is one)",
            "; ".join(f"ALTER TABLE {name} REPLICA IDENTITY FULL" for name in found.structure.without_identity),
        )


def _column(found: TargetFacts) -> Iterator[PlanProblem]:
    column = found.table.columns[found.embedding]
    if found.kind not in WRITABLE:
        known = {"sparsevec": "a sparse vector", "bit": "a vector of bits"}
        kind = found.kind or column.stored_type.partition("(")[0]
        what = f", {known[kind]}" if kind in known else ""
        yield PlanProblem(
            f"column {column_of(found)} has type {column.type}{what}; ragops writes vector and halfvec"
        )
    if column.is_generated:
        yield PlanProblem(
            f"column {column_of(found)} is generated, so nothing can be written into it",
            f"ALTER TABLE {found.table.quoted} ALTER COLUMN {quoted(found.embedding)} DROP EXPRESSION",
        )


def _privileges(facts: PlanFacts, target: RowTarget, found: TargetFacts) -> Iterator[PlanProblem]:
    server, table = facts.database.server, found.table
    role, to = server.role, quoted(server.role)
    yield from table_privilege_problems(table, role, "USAGE")
    lacking = [name for name in columns_read(target, found) if name in found.unreadable]
    if lacking:
        names = ", ".join(map(quoted, lacking))
        yield PlanProblem(
            f"role {role} lacks SELECT on {names} of {place_of(found)}",
            f"GRANT SELECT ({names}) ON {table.quoted} TO {to}",
        )
    if target.write == "in_place" and not found.may_update:
        yield PlanProblem(
            f"role {role} lacks UPDATE on {column_of(found)}; it needs none on any other column",
            f"GRANT UPDATE ({quoted(found.embedding)}) ON {table.quoted} TO {to}",
        )
    if not found.may_use_temp:
        yield PlanProblem(
            f"role {role} lacks TEMPORARY on database {server.database}: vectors come by way of a temporary table",
            f"GRANT TEMPORARY ON DATABASE {quoted(server.database)} TO {to}",
        )
    if found.is_row_security_active:
        yield PlanProblem(
            f"row-level security of {place_of(found)} applies to role {role}: rows that its policies hide would "
            "keep their vectors, unseen and uncounted (or run ragops as the table's owner)",
            f"ALTER ROLE {to} BYPASSRLS",
        )
    steps = facts.playbook.steps
    if target.write == "beside" and "OWN" not in table.privileges:
        yield PlanProblem(
            f"role {role} does not own {place_of(found)}, and `write: beside` adds a column, a trigger and "
            "indexes "
            "(or run ragops as its owner)",
            f"ALTER TABLE {table.quoted} OWNER TO {to}",
        )
    elif table.indexes and any(isinstance(step, DropIndexes | RebuildIndexes) for step in steps):
        yield from table_privilege_problems(table, role, "OWN")
    if any(isinstance(step, RebuildIndexes) for step in steps):
        yield from table_privilege_problems(table, role, "CREATE")


def _triggers(facts: PlanFacts, target: RowTarget, found: TargetFacts) -> Iterator[PlanProblem]:
    if not found.fired:
        return
    listed = "; ".join(f"{trigger}{_assigned(trigger.assigns)}" for trigger in found.fired)
    place, role = f"targets[{found.number - 1}].triggers", facts.database.server.role
    if target.triggers == "refuse":
        yield PlanProblem(
            f"an UPDATE of {column_of(found)} fires {listed}. If these may fire for every row that is "
            "written, write "
            f"`triggers: fire` into targets[{found.number - 1}]; if they must not, `triggers: disable`, which "
            "works in "
            "ragops' own transactions alone"
        )
    elif target.triggers == "disable" and found.silences_triggers:
        yield PlanProblem(
            f"{place} is `disable`, and these fire for a replica, too (ENABLE ALWAYS or REPLICA): {listed}",
            "; ".join(f"ALTER TABLE {one.table} ENABLE TRIGGER {quoted(one.name)}" for one in found.fired),
        )
    elif target.triggers == "disable":
        yield PlanProblem(
            f"{place} is `disable`, and role {role} may not set session_replication_role, with which triggers "
            "do not "
            "fire in a transaction of its own (or write `triggers: fire`)",
            f"GRANT SET ON PARAMETER session_replication_role TO {quoted(role)}",
        )


def _assigned(columns: tuple[str, ...]) -> str:
    return f", which sets {', '.join(columns)}" if columns else ""


def _dimensions(facts: PlanFacts, target: RowTarget, found: TargetFacts) -> Iterator[PlanProblem]:
    expected, table = model_dimensions(facts), found.table
    if expected is None or found.kind not in WRITABLE:
        return
    if target.write == "in_place":
        declared = found.dimensions
        if declared not in (None, expected):
            yield PlanProblem(
                f"column {column_of(found)} holds {declared} dimensions, the model makes {expected}: write "
                f"`write: beside` into targets[{found.number - 1}], which fills a second column and exchanges "
                "the two "
                "(ragops init --campaign reembed writes such a playbook)"
            )
        elif declared is None:
            for index in table.indexes:
                casts = {int(found) for found in _CAST.findall(index.definition)}
                if quoted(found.embedding) in index.definition and casts and expected not in casts:
                    yield PlanProblem(
                        f"index {quoted(index.schema, index.name)} casts {column_of(found)} to {min(casts)} "
                        "dimensions, "
                        f"the model makes {expected}: it would refuse every vector",
                        f"DROP INDEX {quoted(index.schema, index.name)}",
                    )
        return
    kind = target.type or found.kind
    limit = INDEXED[kind]
    if expected > STORED:
        yield PlanProblem(f"a column of {kind} holds {STORED:,} dimensions at most, the model makes {expected:,}")
    elif expected > limit and any(not index.is_attached for index in table.indexes):
        way = (
            f"write `type: halfvec` into targets[{found.number - 1}] ({INDEXED['halfvec']:,} at most)"
            if kind == "vector" and expected <= INDEXED["halfvec"]
            else "cut the vectors with model.dimensions, where the model allows it"
        )
        yield PlanProblem(
            f"an index takes {limit:,} dimensions of a {kind} at most, the model makes {expected:,}, and "
            f"{column_of(found)} is indexed: {way}"
        )


def _second_column(facts: PlanFacts, target: RowTarget, found: TargetFacts) -> Iterator[PlanProblem]:
    if found.has_fixed_columns:
        yield PlanProblem(
            f"{place_of(found)} is a partition or a typed table: a column is added to the table above it, "
            "so name that one"
        )
    if len(target.filled_column.encode()) > MAX_NAME:
        yield PlanProblem(
            f"the second column's name {target.filled_column!r} has more than {MAX_NAME} bytes: "
            f"targets[{found.number - 1}].new_column names a shorter one"
        )
