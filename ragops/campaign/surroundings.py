"""What a rehearsal cannot see: problems and notes from the catalog, for the steps that remain."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.cures import REFERENCES, misfit, type_cure
from ragops.campaign.lost_columns import Structures, changed_columns, emptied_tables, lost_column_problems
from ragops.campaign.preflight import CONNECTIONS
from ragops.campaign.privileges import QUEUE
from ragops.campaign.row_notes import row_notes
from ragops.campaign.steps.base import PlanFacts
from ragops.errors import first_line
from ragops.facts import StructureFacts, TableFacts, quoted, vector_dimensions, version_of
from ragops.findings import PlanProblem
from ragops.playbook.model import Index
from ragops.playbook.steps import Embed, RebuildIndexes, ReseedQueue
from ragops.postgres.column_checks import written_columns
from ragops.postgres.connection import DATABASE_ERRORS, Connection
from ragops.postgres.constraints import (
    hidden_tables,
    read_connection_limits,
    read_encoding,
)
from ragops.postgres.copy_binary import text_limit
from ragops.postgres.ddl import OPERATOR_CLASSES
from ragops.postgres.writer import id_problem

# What pgvector's indexes take: https://github.com/pgvector/pgvector#hnsw
VECTOR_LIMIT, HALFVEC_LIMIT = 2000, 4000
HALFVEC_SINCE = (0, 7)


def surrounding_problems(
    connection: Connection, facts: PlanFacts, structures: Structures
) -> Iterator[PlanProblem]:
    """Yield what stands in the way of the playbook's steps, each with its cure."""
    steps = facts.playbook.steps
    yield from _connections(connection)
    for logical, structure in structures.items():
        yield from _structure(facts.table(logical), structure)
    if any(isinstance(step, Embed) for step in steps):
        yield from embed_problems(facts, structures)
    if any(isinstance(step, RebuildIndexes) for step in steps):
        for index in facts.playbook.indexes:
            yield from _index(facts, index)
    emptied = emptied_tables(facts)
    for logical, method in emptied.items():
        if method == "delete" and logical in structures:
            yield from _unpublished(facts.table(logical), structures[logical], "DELETE")
    if any(isinstance(step, ReseedQueue) for step in steps):
        yield from _source(connection, facts)
        queue = facts.database.tables.get(QUEUE)
        if queue is not None and queue.rows and QUEUE not in emptied:
            yield PlanProblem(
                f"{queue.qualified} holds {queue.rows:,} items, reseed_queue needs it empty, "
                f"and no empty_tables of the playbook lists {QUEUE}",
                f"TRUNCATE TABLE {quoted(queue.schema, queue.name)}",
            )
    yield from lost_column_problems(connection, facts, structures)


def embed_problems(facts: PlanFacts, structures: Structures) -> Iterator[PlanProblem]:
    """Yield what keeps documents from being stored, as far as the catalog says it."""
    if facts.playbook.targets:
        # Nothing is inserted; ragops' own queue is as it made it.
        return
    tables = facts.playbook.tables
    documents, column = facts.database.tables.get("documents"), tables.columns_of("documents")["id"]
    if documents is not None and column in documents.columns:
        problem = id_problem(documents, column)
        if problem is not None:
            yield problem
    known = {logical: facts.table(logical) for logical in structures}
    for logical, word in REFERENCES:
        if logical in known and misfit(tables, known, logical, word):
            name, other = tables.columns_of(logical)[word], REFERENCES[logical, word]
            yield PlanProblem(
                f"column {known[logical].qualified}.{name} has type {known[logical].columns[name].type}, "
                f"which cannot hold the ids of {known[other].qualified}",
                type_cure(tables, known, logical, word),
            )
    for logical, structure in structures.items():
        table, role = facts.table(logical), facts.database.server.role
        columns = written_columns(tables, logical, table)
        mapped = set(columns.values())
        # Only what is written: the queue's own id is not.
        written = mapped - ({tables.columns_of(logical)["id"]} if logical == QUEUE else set())
        for name in sorted(written & structure.generated.keys()):
            yield _generated(table, name, structure.generated[name])
        for word, name in columns.items():
            # The client turns any value into a boolean without an error.
            if name in table.columns and table.columns[name].type == "boolean":
                cure = type_cure(tables, known, logical, word)
                yield PlanProblem(
                    f"column {table.qualified}.{name} has type boolean, which cannot hold {word}", cure
                )
        for sequence in structure.sequences:
            # An identity needs no privilege, but ragops draws the documents' ids before it stores them.
            is_drawn = not sequence.is_identity or (logical == "documents" and sequence.column == column)
            is_filled = sequence.column not in mapped or sequence.column == tables.columns_of(logical).get("id")
            if is_drawn and is_filled and not sequence.is_usable:
                yield PlanProblem(
                    f"role {role} lacks USAGE on sequence {sequence.name}, "
                    f"which fills {table.qualified}.{sequence.column}",
                    f"GRANT USAGE ON SEQUENCE {sequence.name} TO {quoted(role)}",
                )
    if QUEUE in structures:
        yield from _unpublished(facts.table(QUEUE), structures[QUEUE], "UPDATE")


def describe(connection: Connection, facts: PlanFacts, structures: Structures) -> Iterator[str]:
    """Yield what the operator should know before the campaign starts."""
    emptied = emptied_tables(facts)
    verbs = {step.step for step in facts.playbook.steps}
    for logical, structure in structures.items():
        table, method = facts.table(logical), emptied.get(logical)
        events = set()
        if ("reseed_queue" if logical == QUEUE else "embed") in verbs:
            events.add("INSERT")
        if logical == QUEUE and "embed" in verbs:
            events.add("UPDATE")
        if method:
            events.add(method.upper())
        for trigger in structure.triggers:
            fired = [event for event in trigger.events if event in events]
            if fired:
                often = "for every row" if trigger.is_per_row else "once a statement"
                yield f"{trigger} fires {often} that the campaign writes ({', '.join(fired)})"
        if method and method.upper() in structure.published:
            names = ", ".join(structure.published[method.upper()])
            yield f"{method.upper()} of {table.qualified} goes to the subscribers of publication {names}, too"
        for index in structure.invalid_indexes:
            yield (
                f"index {index} of {table.qualified} is invalid, a leftover of an interrupted build: "
                f"DROP INDEX {index}"
            )
        for word, column in facts.playbook.tables.columns_of(logical).items():
            limit = text_limit(table.columns[column].type) if column in table.columns else None
            if limit is not None and word in ("content", "location", "file_path"):
                yield f"{table.qualified}.{column} holds {limit:,} characters: a longer {word} makes its item fail"
    documents = facts.database.tables.get("documents")
    if documents is not None and documents.rows and "documents" in emptied and "documents" in structures:
        own = {quoted(t.schema, t.name) for t in facts.database.tables.values() if t}
        found = [name for name in structures["documents"].mentions if _table_of(name) not in own]
        where = f"; these look as if they held them: {', '.join(found)}" if found else ""
        yield (
            f"documents get new ids: what holds an id of {documents.qualified} without a foreign key "
            f"dangles{where}"
        )
    yield from row_notes(facts)
    encoding = read_encoding(connection)
    if encoding != "UTF8" and "embed" in verbs:
        yield f"the database's encoding is {encoding}: a document with a character outside of it fails"
    limits = read_connection_limits(connection)
    yield (
        f"connections: {limits.free} of the {limits.limit} that the {limits.what} allows are free, "
        f"{CONNECTIONS} are needed"
    )
    yield from changed_columns(connection, facts, structures)


def _connections(connection: Connection) -> Iterator[PlanProblem]:
    limits = read_connection_limits(connection)
    if limits.free >= CONNECTIONS:
        return
    (role, database) = (connection.info.user, connection.info.dbname)
    wanted = limits.limit - limits.free + CONNECTIONS
    cures = {
        "server": f"ALTER SYSTEM SET max_connections = {wanted + 20}",
        "role": f"ALTER ROLE {quoted(role)} CONNECTION LIMIT {wanted}",
        "database": f"ALTER DATABASE {quoted(database)} CONNECTION LIMIT {wanted}",
    }
    after = " (it takes a restart of the server; or close other connections)" if limits.what == "server" else ""
    yield PlanProblem(
        f"{max(0, limits.free)} of the {limits.limit} connections that the {limits.what} allows are free, "
        f"ragops needs {CONNECTIONS}{after}",
        cures[limits.what],
    )


def _structure(table: TableFacts, structure: StructureFacts) -> Iterator[PlanProblem]:
    name = quoted(table.schema, table.name)
    for child in structure.children:
        yield PlanProblem(
            f"table {child} inherits from {table.qualified}: its rows would be emptied, too, "
            f"and an undo would put them into {table.qualified}",
            f"ALTER TABLE {child} NO INHERIT {name}",
        )
    for partition in structure.unlogged_partitions:
        yield PlanProblem(
            f"partition {partition} of {table.qualified} is UNLOGGED: a crash would empty it",
            f"ALTER TABLE {partition} SET LOGGED",
        )


def _generated(table: TableFacts, column: str, kind: str) -> PlanProblem:
    name, quoted_column = quoted(table.schema, table.name), quoted(column)
    cure = f"ALTER TABLE {name} ALTER COLUMN {quoted_column} DROP EXPRESSION"
    if kind == "v":
        # A virtual column stores nothing that could be kept.
        cure = (
            f"ALTER TABLE {name} DROP COLUMN {quoted_column}, "
            f"ADD COLUMN {quoted_column} {table.columns[column].type}"
        )
    return PlanProblem(f"column {table.qualified}.{column} is generated, so nothing can be written into it", cure)


def _unpublished(table: TableFacts, structure: StructureFacts, event: str) -> Iterator[PlanProblem]:
    publications = structure.published.get(event, ())
    if publications and structure.without_identity:
        yield PlanProblem(
            f"{table.qualified} is in publication {', '.join(publications)}, which forbids {event} "
            "without a replica identity (a primary key is one)",
            "; ".join(f"ALTER TABLE {name} REPLICA IDENTITY FULL" for name in structure.without_identity),
        )


def _index(facts: PlanFacts, index: Index) -> Iterator[PlanProblem]:
    """Yield why an index of the playbook could not be built after the load."""
    table = facts.database.tables.get(index.table)
    column = facts.playbook.tables.columns_of(index.table)["embedding"]
    if table is None or column not in table.columns:
        return
    known = {one.name for one in table.indexes if one.is_valid} | {entry.name for entry in facts.journal}
    if index.name in known:
        # It is restored as it was, whatever the playbook says.
        return
    declared = vector_dimensions(table, column)
    dimensions = declared or (facts.model.dimensions if facts.model else facts.playbook.model.dimensions)
    name = quoted(table.schema, table.name)
    if dimensions is not None and dimensions > VECTOR_LIMIT:
        version = facts.database.server.pgvector_version
        has_halfvec = version is not None and version_of(version) >= HALFVEC_SINCE
        cure = ""
        if has_halfvec and dimensions <= HALFVEC_LIMIT:
            operators = OPERATOR_CLASSES[index.metric].replace("vector", "halfvec", 1)
            cure = (
                f"CREATE INDEX {quoted(index.name)} ON {name} USING hnsw "
                f"(({quoted(column)}::halfvec({dimensions})) {operators})"
            )
        yield PlanProblem(
            f"index {index.name}: an HNSW index takes {VECTOR_LIMIT:,} dimensions of a vector at most "
            f"({HALFVEC_LIMIT:,} of a halfvec), {table.qualified}.{column} has {dimensions:,}; "
            "index it as halfvec, or write `indexes: []` into the playbook",
            cure,
        )
    elif declared is None:
        yield PlanProblem(
            f"index {index.name}: column {table.qualified}.{column} is a vector without dimensions, "
            "which cannot be indexed",
            f"ALTER TABLE {name} ALTER COLUMN {quoted(column)} TYPE vector({dimensions})" if dimensions else "",
        )


def _source(connection: Connection, facts: PlanFacts) -> Iterator[PlanProblem]:
    """Yield the tables of the source whose policies hide rows from this role."""
    source = facts.playbook.source
    if not (source.table or source.query):
        return
    role = facts.database.server.role
    try:
        hidden = hidden_tables(connection, source)
    except DATABASE_ERRORS as error:
        yield PlanProblem(f"the source cannot be read: {first_line(error)}")
        return
    for table in hidden:
        yield PlanProblem(
            f"row-level security of {table}, which the source reads, applies to role {role}: "
            "rows that its policies hide would be left out",
            f"ALTER ROLE {quoted(role)} BYPASSRLS",
        )


def _table_of(column: str) -> str:
    """Return the table of a quoted name `schema.table.column`, quoted throughout."""
    parts = [part.strip('"') for part in column.split(".")]
    return quoted(*parts[:2])
