"""What a campaign may not change: checksums of every column but the vectors, and the whole structure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg import sql

Columns = Collection[tuple[str, str]]
"""Table, as `schema.table` without quotes, and column."""

_MINE = """
n.nspname NOT IN ('ragops', 'pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.objid = {oid} AND d.classid = {catalog}::regclass AND d.deptype = 'e'
)
"""
_RELATION = _MINE.format(oid="c.oid", catalog="'pg_class'")
_COLUMNS = f"""
SELECT n.nspname || '.' || c.relname, a.attname, c.relkind = 'r' FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_RELATION} ORDER BY a.attnum
"""
# Everything that a user could have set, without column numbers: the order of columns is the one thing that
# a column added and dropped again leaves as it was, and a second one beside it changes.
_STRUCTURE = {
    "relations": f"""
        SELECT n.nspname || '.' || c.relname, c.relkind, c.relowner::regrole, c.relacl, c.relrowsecurity,
        c.relforcerowsecurity, c.reloptions, c.relreplident, c.reltablespace, obj_description(c.oid, 'pg_class'),
        pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind NOT IN ('t') AND {_RELATION}""",
    "columns": f"""
        SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attidentity, a.attgenerated, a.attstorage, a.attcompression, a.attstattarget, a.attacl, a.attoptions,
        pg_get_expr(e.adbin, e.adrelid), col_description(c.oid, a.attnum)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef e ON e.adrelid = c.oid AND e.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm') AND {_RELATION}""",
    "indexes": f"""
        SELECT n.nspname || '.' || c.relname, pg_get_indexdef(c.oid), i.indisvalid, i.indisready, i.indisclustered,
        i.indisreplident, obj_description(c.oid, 'pg_class'), c.reloptions,
        (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = c.oid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_RELATION}""",
    "constraints": f"""
        SELECT n.nspname || '.' || c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated,
        obj_description(k.oid, 'pg_constraint')
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_RELATION}""",
    "triggers": f"""
        SELECT n.nspname || '.' || c.relname, pg_get_triggerdef(t.oid), t.tgenabled,
        obj_description(t.oid, 'pg_trigger')
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal AND {_RELATION}""",
    "policies": "SELECT * FROM pg_policies",
    "functions": f"""
        SELECT p.oid::regprocedure, pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl,
        obj_description(p.oid, 'pg_proc') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prokind IN ('f', 'p') AND {_MINE.format(oid="p.oid", catalog="'pg_proc'")}""",
    "views": f"""
        SELECT n.nspname || '.' || c.relname, pg_get_viewdef(c.oid) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {_RELATION}""",
    "publications": "SELECT * FROM pg_publication_tables",
    "statistics": "SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext",
    "sequences": "SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE schemaname <> 'ragops'",
    "schemas": "SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace WHERE nspname NOT IN ('ragops')"
    " AND nspname NOT LIKE 'pg\\_%%'",
}


def checksums(dsn: str, *, without: Columns) -> dict[str, tuple[int, str]]:
    """Return rows and checksum of every user's table, over all of its columns but those."""
    with psycopg.connect(dsn) as connection:
        return {
            table: _checksum(connection, table, [name for name in names if (table, name) not in without])
            for table, names in _tables(connection).items()
        }


def vector_checksums(dsn: str, columns: Columns, *, beside: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return rows and checksum of vector columns, as the tables' rows have them.

    `beside` are the endings of columns that may stand beside them.
    """
    hidden = {(table, f"{column}{ending}") for table, column in columns for ending in ("", *beside)}
    with psycopg.connect(dsn) as connection:
        tables = _tables(connection)
        keyed = {}
        for table, column in columns:
            # With the other columns, so that vectors which changed places are another checksum.
            others = [name for name in tables[table] if (table, name) not in hidden]
            keyed[f"{table}.{column}"] = _checksum(connection, table, [*others, column])
        return keyed


def structure(dsn: str) -> dict[str, list[str]]:
    """Return everything that the catalog says of the user's relations and functions."""
    with psycopg.connect(dsn) as connection:
        # Nothing is printed without its schema.
        connection.execute("SET LOCAL search_path = ''")
        return {
            what: sorted(str(row) for row in connection.execute(query.replace("%%", "%").encode()))
            for what, query in _STRUCTURE.items()
        }


def _tables(connection: psycopg.Connection[Any]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    partitioned = set()
    for table, column, is_plain in connection.execute(_COLUMNS.replace("%%", "%").encode()):
        found.setdefault(table, []).append(column)
        partitioned |= set() if is_plain else {table}
    return found


def _checksum(connection: psycopg.Connection[Any], table: str, columns: list[str]) -> tuple[int, str]:
    query = sql.SQL(
        "SELECT count(*), coalesce(md5(string_agg(md5(line), '' ORDER BY line)), '') "
        "FROM (SELECT ROW({})::text AS line FROM {}) AS lines"
    ).format(
        # In the order of the names: a column that was dropped and added is a later one.
        sql.SQL(", ").join(sql.Identifier(name) for name in sorted(columns)),
        sql.Identifier(*table.split(".", 1)),
    )
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0], row[1]
