"""Look ahead of a campaign: find what would refuse its writes, with the SQL that cures it, before it starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ragops.campaign.cures import REFERENCES, TYPES, column_named, type_cure
from ragops.campaign.index_choice import index_notes
from ragops.campaign.plan import Outlook, find_problems
from ragops.campaign.preflight import refuse_problems
from ragops.campaign.row_problems import row_problems
from ragops.campaign.row_rehearsal import rehearse_updates
from ragops.campaign.steps.base import PlanFacts
from ragops.campaign.surroundings import describe, embed_problems, surrounding_problems
from ragops.facts import StructureFacts, TableFacts, TriggerFacts, quoted, vector_dimensions
from ragops.findings import PlanProblem
from ragops.playbook.steps import EmptyTables
from ragops.postgres.constraints import is_constant, read_structure
from ragops.postgres.locks import PLAN_PATIENCE, with_lock_retries
from ragops.postgres.measured import unrecordable
from ragops.postgres.rehearsal import Refusal, Scene, rehearse
from ragops.postgres.writer import behind_sequence_cure
from ragops.session import Session

# Where neither model nor column says how long a vector is.
ANY_DIMENSIONS = 32
# SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNIQUE, PRIVILEGE, TOO_LONG = "23505", "42501", "22001"
# Columns whose values differ from row to row: a unique index that has one of them collides with old rows alone.
VARYING = {
    "documents": {"id", "file_id", "file_path", "content", "embedding"},
    "document_chunks": {"document_id"},
    "parsed_files": {"file_id"},
    "files_queue": {"id", "location"},
}


@dataclass(frozen=True, slots=True)
class Stage:
    """What a refusal is explained with."""

    facts: PlanFacts
    structures: Mapping[str, StructureFacts]
    emptied: frozenset[str]

    def table(self, logical: str) -> TableFacts:
        return self.facts.table(logical)

    def logical_of(self, refusal: Refusal) -> str:
        """Return the logical table of a refusal; a deferred constraint names only the table itself."""
        if refusal.logical:
            return refusal.logical
        for logical, structure in self.structures.items():
            if self.table(logical).name == refusal.table or _named(structure.triggers, refusal.context):
                return logical
        return ""


def look_ahead(session: Session, facts: PlanFacts, *, done: Collection[int] = ()) -> Outlook:
    """Return what stands in the way of the steps that are not `done`, and what the operator should know.

    Nothing changes: the writes are rehearsed in a transaction that is rolled back (sequences go on).
    """
    steps = [step for number, step in enumerate(facts.playbook.steps, start=1) if number not in done]
    facts = replace(facts, playbook=facts.playbook.model_copy(update={"steps": tuple(steps)}))
    tables = {logical: table for logical, table in facts.database.tables.items() if table}
    structures = {logical: read_structure(session.connection, table) for logical, table in tables.items()}
    known: list[PlanProblem | str] = list(find_problems(facts))
    problems = list(surrounding_problems(session.connection, facts, structures))
    if "embed" in {step.step for step in steps} and (problem := unrecordable(session.connection)) is not None:
        problems.append(problem)
    refusals: list[PlanProblem] = []
    server = facts.database.server
    verbs = {step.step for step in steps}
    has_all = len(tables) == len(facts.database.tables) and not facts.playbook.targets
    if has_all and verbs & {"reseed_queue", "embed"} and server.pgvector_version and not server.is_read_only:
        refusals = _rehearsed(session, facts, structures, [*known, *problems], verbs)
    if facts.targets and not known and not problems and not server.is_read_only:
        refusals = rehearse_updates(session, facts)
    notes = list(describe(session.connection, facts, structures))
    if facts.targets and {"select_rows", "embed"} <= verbs and not [*known, *problems, *refusals]:
        notes += index_notes(session, facts)
    return Outlook(tuple(dict.fromkeys([*problems, *refusals])), tuple(notes))


def refuse_unwritable(session: Session) -> None:
    """Raise PlanRefused for tables that cannot take documents: by the catalog alone, for `ragops embed`."""
    database = session.facts(scans=False)
    tables = {logical: table for logical, table in database.tables.items() if table}
    structures = {logical: read_structure(session.connection, table) for logical, table in tables.items()}
    facts = PlanFacts(session.playbook, database, targets=session.targets(scans=False))
    problems = [*embed_problems(facts, structures), *row_problems(facts)]
    if (problem := unrecordable(session.connection)) is not None:
        problems.append(problem)
    refuse_problems(problems, where=session.target.label)


def _rehearsed(
    session: Session,
    facts: PlanFacts,
    structures: Mapping[str, StructureFacts],
    known: Collection[PlanProblem | str],
    verbs: Collection[str],
) -> list[PlanProblem]:
    database, playbook = facts.database, facts.playbook
    tables = {logical: table for logical, table in database.tables.items() if table}
    emptying = [entry for step in playbook.steps if isinstance(step, EmptyTables) for entry in step.tables]
    # A table with a problem would only repeat it here.
    words = [str(problem) for problem in known]
    scene = Scene(
        seeds="reseed_queue" in verbs,
        embeds="embed" in verbs,
        dimensions=_dimensions(facts),
        seeds_rows=bool(playbook.source.table or playbook.source.query),
        deletes=tuple(entry.table for entry in emptying if entry.method == "delete"),
        emptied=frozenset(entry.table for entry in emptying),
        left_out=frozenset(
            logical
            for logical, table in tables.items()
            if any(re.search(rf"\b{re.escape(table.qualified)}\b", word) for word in words)
        ),
    )
    refusals = with_lock_retries(
        session.connection,
        lambda: rehearse(session.connection, playbook.tables, tables, scene),
        tables=list(tables.values()),
        backoff=PLAN_PATIENCE,
        reporter=session.reporter,
    )
    stage = Stage(facts, structures, frozenset(entry.table for entry in emptying))
    # Several statements may fail for one reason: it is said once, for the first of them.
    first: dict[tuple[str, str], PlanProblem] = {}
    for refusal in refusals:
        problem = _problem(stage, refusal)
        if problem is not None:
            first.setdefault((refusal.logical, problem.cure or problem.what), problem)
    return list(first.values())


def _dimensions(facts: PlanFacts) -> int:
    """Return the length of the model's vectors, as far as it is known without loading the model again."""
    declared = facts.model.dimensions if facts.model else facts.playbook.model.dimensions
    for logical in ("documents", "document_chunks"):
        table = facts.database.tables.get(logical)
        column = facts.playbook.tables.columns_of(logical)["embedding"] if table else ""
        if declared is None and table is not None and column in table.columns:
            declared = vector_dimensions(table, column)
    return declared or ANY_DIMENSIONS


def _problem(stage: Stage, refusal: Refusal) -> PlanProblem | None:
    """Return the problem with its cure; None for a collision with rows that the plan removes."""
    logical = stage.logical_of(refusal)
    if not logical:
        cure = ""
        if refusal.state == PRIVILEGE:
            server = stage.facts.database.server
            cure = f"GRANT CREATE ON DATABASE {quoted(server.database)} TO {quoted(server.role)}"
        return PlanProblem(f"{refusal.action} fails: {refusal.message}", cure)
    table, what = stage.table(logical), f"{refusal.action} fails"
    triggers = _triggers_of(stage, logical, refusal)
    if triggers:
        names = " and ".join(map(str, triggers))
        return PlanProblem(
            f"{what} in {table.qualified}: {refusal.message} ({names})",
            "; ".join(f"ALTER TABLE {one.table} DISABLE TRIGGER {quoted(one.name)}" for one in triggers),
        )
    if refusal.state == UNIQUE and _is_cured_by_emptying(stage, logical, refusal):
        return None
    column = refusal.column or column_named(refusal.context, table)
    cure, message = _cure(stage, logical, refusal, column), refusal.message
    if refusal.is_type and not column:
        suspects = [name for name in table.columns if f"ALTER COLUMN {quoted(name)} TYPE" in cure]
        column = suspects[0] if len(suspects) == 1 else ""
        message = f"its type is {table.columns[column].type}" if column else f"a column's type ({message})"
    place = f"{table.qualified}.{column}" if column else table.qualified
    return PlanProblem(f"{what} in {place}: {message}", cure)


def _triggers_of(stage: Stage, logical: str, refusal: Refusal) -> list[TriggerFacts]:
    """Return the triggers that refused a row, or the only ones that can have taken it away."""
    triggers = stage.structures[logical].triggers
    named = _named(triggers, refusal.context)
    if named or refusal.state or refusal.is_type:
        return named
    event = "INSERT" if "filling" in refusal.action or "storing" in refusal.action else "UPDATE"
    return [one for one in triggers if one.is_per_row and one.when == "BEFORE" and event in one.events]


def _named(triggers: Sequence[TriggerFacts], context: str) -> list[TriggerFacts]:
    """Return the triggers whose function stands in the server's context of an error."""
    # As in `PL/pgSQL function enqueue() line 1 at RAISE`, in the language of the server.
    return [
        one for one in triggers if re.search(rf"(?<!\w){re.escape(one.function)}\(|\"{one.function}\"", context)
    ]


def _is_cured_by_emptying(stage: Stage, logical: str, refusal: Refusal) -> bool:
    """Return whether two rows collide only because the old ones are still there."""
    if logical not in stage.emptied or stage.table(logical).rows == 0:
        return False
    mapped = stage.facts.playbook.tables.columns_of(logical)
    varying = {column for word, column in mapped.items() if word in VARYING.get(logical, ())}
    defaults = stage.structures[logical].defaults
    identities = {column.name for column in stage.table(logical).columns.values() if column.is_identity}
    for unique in stage.structures[logical].uniques:
        if unique.name == refusal.constraint:
            return any(
                column in varying
                or column in identities
                or (column not in mapped.values() and not is_constant(defaults.get(column)))
                for column in unique.columns
            )
    return False


def _cure(stage: Stage, logical: str, refusal: Refusal, column: str) -> str:
    """Return the SQL that lets the rehearsed statement pass; empty where none is known."""
    table = stage.table(logical)
    name, role = quoted(table.schema, table.name), quoted(stage.facts.database.server.role)
    mapped = stage.facts.playbook.tables.columns_of(logical)
    match refusal.state:
        case "23502" if column:
            return f"ALTER TABLE {name} ALTER COLUMN {quoted(column)} DROP NOT NULL"
        case "23514" if refusal.domain:
            return f"ALTER DOMAIN {_quoted_name(refusal.domain)} DROP CONSTRAINT {quoted(refusal.constraint)}"
        case "23514" if not refusal.constraint:
            # Of a partitioned table: no partition takes the row.
            partition = quoted(table.schema, f"{table.name[:50]}_default")
            return f"CREATE TABLE {partition} PARTITION OF {name} DEFAULT"
        case "23505":
            return _unique_cure(stage, logical, refusal)
        case "23503" | "23514" | "23P01":
            return f"ALTER TABLE {name} DROP CONSTRAINT {quoted(refusal.constraint)}"
        case "42501":
            return _grant(refusal, name, role, logical)
        case "54000" if refusal.constraint:
            return _drop_index(stage, logical, refusal.constraint)
        case "55000":
            return f"ALTER TABLE {name} REPLICA IDENTITY FULL"
    words = [word for word, mapped_column in mapped.items() if mapped_column == column]
    wrong = words or [word for word in mapped if (logical, word) in TYPES or (logical, word) in REFERENCES]
    if refusal.state == TOO_LONG and not words:
        # The message names the type: `value too long for type character varying(3)`.
        wrong = words = [w for w in wrong if table.columns[mapped[w]].type in refusal.message]
    facts = {logical: facts for logical, facts in stage.facts.database.tables.items() if facts}
    cures = [type_cure(stage.facts.playbook.tables, facts, logical, word, force=bool(words)) for word in wrong]
    return "; ".join(filter(None, cures))


def _unique_cure(stage: Stage, logical: str, refusal: Refusal) -> str:
    table = stage.table(logical)
    unique = next((one for one in stage.structures[logical].uniques if one.name == refusal.constraint), None)
    key = stage.facts.playbook.tables.columns_of(logical).get("id")
    if unique is not None and key in unique.columns and (table.columns[key].type in ("bigint", "integer")):
        # The sequence is behind the ids that are there, as after a restored dump.
        return behind_sequence_cure(table, key)
    return _drop_index(stage, logical, refusal.constraint)


def _drop_index(stage: Stage, logical: str, name: str) -> str:
    """Return the SQL that drops an index, or the constraint that it belongs to."""
    table = stage.table(logical)
    if any(unique.name == name and unique.is_constraint for unique in stage.structures[logical].uniques):
        return f"ALTER TABLE {quoted(table.schema, table.name)} DROP CONSTRAINT {quoted(name)}"
    return f"DROP INDEX {quoted(table.schema, name)}"


def _grant(refusal: Refusal, table: str, role: str, logical: str) -> str:
    """Return the GRANT for what the server's message names: a function, or else the table."""
    found = re.search(r"\bfunction (\w+)$", refusal.message)
    if found:
        return f"GRANT EXECUTE ON ROUTINE {quoted(found[1])} TO {role}"
    privileges = "SELECT, INSERT, UPDATE" if logical == "files_queue" else "SELECT, INSERT"
    return f"GRANT {privileges} ON {table} TO {role}"


def _quoted_name(dotted: str) -> str:
    return quoted(*dotted.split(".", 1))
