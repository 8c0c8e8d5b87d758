"""Find pgvector's types wherever the extension is installed, and register them with a connection.

Supabase and others install it in a schema `extensions`; whether that schema is on the search path depends on the
role and on the pooler, so nothing here asks the search path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.sparsevec import register_sparsevec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from ragops.postgres.statements import statement

_REGISTER = {
    "vector": register_vector_info,
    "halfvec": register_halfvec_info,
    "sparsevec": register_sparsevec_info,
}


def register_vector_types(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    """Register the types of pgvector that this database has; False if it has none."""
    # Not `register_vector` of pgvector, which finds its types by name through the search path.
    found = connection.execute(statement("catalog", "vector_types")).fetchall()
    for name, oid, array_oid in found:
        _REGISTER[name](connection, TypeInfo(name, oid, array_oid))
    return any(name == "vector" for name, *_ in found)


def vector_schema(connection: psycopg.Connection[tuple[Any, ...]]) -> str | None:
    """Return the schema that pgvector is installed in; None if it is not installed."""
    row = connection.execute(statement("catalog", "vector_schema")).fetchone()
    return None if row is None else str(row[0])


def vector_words(schema: str | None) -> Mapping[str, sql.Composable]:
    """Return the placeholders of statements that use pgvector: `{ext}` before a function or type, and `{cosine}`.

    Without a schema (before the extension is created) names stand alone.
    """
    if schema is None:
        return {"ext": sql.SQL(""), "cosine": sql.SQL("<=>")}
    prefix = sql.SQL("{}.").format(sql.Identifier(schema))
    return {"ext": prefix, "cosine": operator("<=>", schema)}


def operator(symbol: str, schema: str) -> sql.Composed:
    """Return an operator of pgvector that is found whatever the search path is."""
    return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), sql.SQL(symbol))
