"""Compose the statements that change structure or remove rows.

A plan prints them, a step executes them, and the ledger keeps them: all three call the same function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from ragops.facts import IndexFacts, IndexProperties, TableFacts, TriggerState, shown_vector_schema
from ragops.playbook.model import Index
from ragops.postgres.statements import Statement

# What `pg_get_indexdef` prints before the table's name. A quoted name may hold anything, ` ON ONLY ` included.
_INDEX_HEAD = re.compile(
    r"(?P<create>CREATE (?:UNIQUE )?INDEX )(?P<name>\"(?:[^\"]|\"\")+\"|[^\s\"]+) ON (?P<only>ONLY )?"
)
_QUALIFIED = re.compile(r'(?:"(?:[^"]|"")+"|[^\s".]+)(?:\.(?:"(?:[^"]|"")+"|[^\s".]+))?')
LockMode = Literal["SHARE UPDATE EXCLUSIVE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"]
OPERATOR_CLASSES = {"cosine": "vector_cosine_ops", "l2": "vector_l2_ops", "ip": "vector_ip_ops"}


def table_identifier(table: TableFacts) -> sql.Identifier:
    """Return the table's quoted, schema-qualified name."""
    return sql.Identifier(table.schema, table.name)


def drop_index_sql(index: IndexFacts) -> Statement:
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(index.schema, index.name))


def truncate_sql(tables: Iterable[TableFacts]) -> Statement:
    """One TRUNCATE for all tables: named together, tables that reference each other need no CASCADE."""
    return sql.SQL("TRUNCATE TABLE {}").format(sql.SQL(", ").join(map(table_identifier, tables)))


def delete_sql(table: TableFacts) -> Statement:
    return sql.SQL("DELETE FROM {}").format(table_identifier(table))


def vacuum_sql(table: TableFacts) -> Statement:
    return sql.SQL("VACUUM {}").format(table_identifier(table))


def analyze_sql(table: TableFacts) -> Statement:
    return sql.SQL("ANALYZE {}").format(table_identifier(table))


def lock_sql(tables: Iterable[TableFacts], mode: LockMode = "ACCESS EXCLUSIVE") -> Statement:
    """LOCK TABLE. SHARE ROW EXCLUSIVE keeps writers out and another ragops; ACCESS EXCLUSIVE readers, too."""
    listed = sql.SQL(", ").join(map(table_identifier, tables))
    return sql.SQL("LOCK TABLE {} IN {} MODE").format(listed, sql.SQL(mode))


def create_index_sql(index: Index, table: TableFacts, column: str, *, concurrently: bool) -> Statement:
    """CREATE INDEX for an index that the playbook describes."""
    schema = shown_vector_schema(table, column)
    return sql.SQL("CREATE INDEX {how}{name} ON {table} USING hnsw ({column} {ops}) WITH ({options})").format(
        how=sql.SQL("CONCURRENTLY " if concurrently else ""),
        name=sql.Identifier(index.name),
        table=table_identifier(table),
        column=sql.Identifier(column),
        ops=sql.Identifier(*([schema] if schema else []), OPERATOR_CLASSES[index.metric]),
        options=sql.SQL("m = {m}, ef_construction = {ef}").format(
            m=sql.Literal(index.m), ef=sql.Literal(index.ef_construction)
        ),
    )


def restore_index_sql(definition: str, *, concurrently: bool) -> Statement:
    """CREATE INDEX from a definition as `pg_get_indexdef` prints it.

    Raises ValueError if it is none. The server prints ON ONLY for the index of a partitioned table. Created so, it
    stays invalid until every partition's index is attached. Without ONLY the server attaches the equal indexes of
    the partitions and creates those that are missing.
    """
    head = _INDEX_HEAD.match(definition)
    if head is None:
        raise ValueError(f"not the definition of an index: {definition!r}")
    create, name = head["create"], head["name"]
    how = "CONCURRENTLY " if concurrently else ""
    return sql.Composed([sql.SQL(f"{create}{how}{name} ON {definition[head.end() :]}")])


@dataclass(frozen=True, slots=True)
class IndexHead:
    """A definition as `pg_get_indexdef` prints it, taken apart behind the table's name."""

    rest: str
    """` USING hnsw (…) …`."""
    is_only: bool
    """It is that of a partitioned table."""
    is_unique: bool = False


def index_head(definition: str) -> IndexHead:
    """Return the parts of a definition. Raises ValueError if it is none."""
    head = _INDEX_HEAD.match(definition)
    table = _QUALIFIED.match(definition, head.end()) if head else None
    if head is None or table is None:
        raise ValueError(f"not the definition of an index: {definition!r}")
    return IndexHead(definition[table.end() :], head["only"] is not None, "UNIQUE" in head["create"])


def new_index_sql(
    name: str, table: TableFacts, made: str, *, concurrently: bool, is_unique: bool = False
) -> Statement:
    """CREATE INDEX of another name, made as `IndexHead.rest` says."""
    words = ["CREATE", *(["UNIQUE"] if is_unique else []), "INDEX", *(["CONCURRENTLY"] if concurrently else [])]
    head = sql.SQL(" ".join(words) + " {} ON {}").format(sql.Identifier(name), table_identifier(table))
    return sql.Composed([head, sql.SQL(made)])


def reindex_sql(index: IndexFacts, *, concurrently: bool) -> Statement:
    """REINDEX of one index, which chooses the lists of an IVFFlat index from the vectors that are there now."""
    how = sql.SQL("REINDEX INDEX CONCURRENTLY {}" if concurrently else "REINDEX INDEX {}")
    return how.format(sql.Identifier(index.schema, index.name))


def analyze_column_sql(table: TableFacts, column: str) -> Statement:
    return sql.SQL("ANALYZE {} ({})").format(table_identifier(table), sql.Identifier(column))


def index_property_statements(index: str, *, schema: str, properties: IndexProperties) -> list[Statement]:
    """Return what gives an index its comment and statistics targets back, to be run after CREATE INDEX."""
    name = sql.Identifier(schema, index)
    statements: list[Statement] = []
    if properties.comment is not None:
        comment = sql.Literal(properties.comment)
        statements.append(sql.SQL("COMMENT ON INDEX {} IS {}").format(name, comment))
    for column, target in properties.statistics.items():
        query = sql.SQL("ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}")
        statements.append(query.format(name, sql.Literal(int(column)), sql.Literal(target)))
    return statements


def archive_sql(archive: str, table: TableFacts) -> Statement:
    """Copy every row of `table` into a new table of the schema `ragops`."""
    return sql.SQL("CREATE TABLE {} AS TABLE {}").format(
        sql.Identifier("ragops", archive), table_identifier(table)
    )


def copy_texts_sql(schema: str, name: str, relation: sql.Composable) -> Statement:
    """Copy ids and texts of a source into a table that no campaign empties."""
    return sql.SQL("CREATE TABLE {} AS SELECT id, text FROM {}").format(sql.Identifier(schema, name), relation)


def private_table_statements(
    name: str, grantees: Sequence[str], *, row_security: bool = False
) -> Iterator[Statement]:
    """Yield what leaves a relation of the schema `ragops` to its owner; the grantee "" is PUBLIC.

    With `row_security`, as the archived table has it, roles that are granted the archive later see no rows.
    """
    relation = sql.Identifier("ragops", name)
    if grantees:
        yield revoke_sql(sql.SQL("TABLE {}").format(relation), grantees)
    if row_security:
        yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(relation)


def revoke_sql(target: sql.Composed, grantees: Sequence[str]) -> Statement:
    """REVOKE ALL on a target such as `TABLE t`."""
    names = [sql.Identifier(name) if name else sql.SQL("PUBLIC") for name in grantees]
    return sql.SQL("REVOKE ALL ON {} FROM {} CASCADE").format(target, sql.SQL(", ").join(names))


def restore_rows_sql(table: TableFacts, archive: str, columns: Sequence[str]) -> Statement:
    """Insert the archived rows into `table`, the named columns of them."""
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
        table_identifier(table), listed, listed, sql.Identifier("ragops", archive)
    )


def checksum_sql(relation: sql.Identifier, columns: Mapping[str, str], *, as_text: bool = False) -> Statement:
    """SELECT the number of rows and a sum over their contents that does not depend on their order.

    `columns` are names with the type that their values are compared in, as `format_type` prints it. `record_send`
    is the binary form; a row with a type that has none must be compared as text (`as_text`), which takes longer.
    """
    values = sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Identifier(name), sql.SQL(type)) for name, type in columns.items()
    )
    row = sql.SQL("ROW({})::text" if as_text else "record_send(ROW({}))").format(values)
    return sql.SQL(
        "SELECT count(*), coalesce(sum(('x' || left(md5({}), 16))::bit(64)::bigint::numeric), 0) FROM {}"
    ).format(row, relation)


def disable_trigger_sql(trigger: TriggerState) -> Statement:
    """ONLY: every partition's own copy of a trigger has a state of its own."""
    return sql.SQL("ALTER TABLE ONLY {} DISABLE TRIGGER {}").format(
        sql.Identifier(trigger.schema, trigger.table), sql.Identifier(trigger.name)
    )


def enable_trigger_sql(trigger: TriggerState) -> Statement:
    """Give a trigger back the state that it had."""
    how = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}[trigger.state]
    return sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(
        sql.Identifier(trigger.schema, trigger.table), sql.SQL(how), sql.Identifier(trigger.name)
    )
