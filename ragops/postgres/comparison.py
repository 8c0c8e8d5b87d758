"""Read two vector columns of one table for a comparison: drawn rows, all vectors, indexed searches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import server_encoding
from ragops.postgres.reader import MIN_EF_SEARCH, OPERATORS
from ragops.postgres.row_relation import condition, key_expression, text_expression
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.statements import Statement, statement
from ragops.postgres.vector_type import operator, vector_schema, vector_words
from ragops.postgres.vector_values import Vector, array_of
from ragops.row_facts import TargetFacts

# Rows that are compared with all queries at once: their distances to 200 queries take 13 MB.
BLOCK_ROWS = 8192
_OPCLASSES = {"cosine": "_cosine_ops", "l2": "_l2_ops", "ip": "_ip_ops", "l1": "_l1_ops"}


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """A vector index as a query meets it; of a partitioned table, all that its partitions have of it."""

    method: str
    metric: str
    expression: str
    """What is indexed, as the server prints it: a column or an expression over one."""
    kind: str
    """The type of that, as `format_type` prints it."""
    predicate: str
    """Of a partial index; empty for others."""
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """A row with its text and its vectors."""

    key: str
    text: str
    old: NDArray[np.float32] | None
    """None for a row that the old column has no vector for."""
    new: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: for each column the keys and vectors of those that have one.

    `…_is_indexed`: the column's index has them; `…_belongs`: they are rows of the target with both vectors.
    """

    old_keys: list[str]
    old: list[bytes]
    old_is_indexed: list[bool]
    old_belongs: list[bool]
    new_keys: list[str]
    new: list[bytes]
    new_is_indexed: list[bool]
    new_belongs: list[bool]


@dataclass(frozen=True, slots=True)
class IndexedSearch:
    """What an index found for one query, and how long the server and the way to it took."""

    keys: tuple[str, ...]
    distances: tuple[float, ...]
    seconds: float


class Columns:
    """The two columns of one target, over one connection; each method is a transaction of its own."""

    def __init__(self, connection: Connection, target: RowTarget, facts: TargetFacts) -> None:
        self._connection = connection
        self._facts = facts
        self._schema = vector_schema(connection) or "public"
        self._words: dict[str, sql.Composable] = {
            **vector_words(self._schema),
            "table": sql.Identifier(facts.table.schema, facts.table.name),
            "key": key_expression(facts.key),
            "content": text_expression(target),
            "condition": condition(target),
            "old": sql.Identifier(facts.embedding),
            "new": sql.Identifier(facts.filled),
        }

    def indexes(self, column: str) -> list[SearchIndex]:
        """Return the indexes on a column that a search can use, those without a predicate first."""
        values = {"oid": self._facts.table.oid, "column": column}
        found = []
        for row in self._connection.execute(statement("compare", "indexes"), values).fetchall():
            method, opclass, expression, kind, is_expression, predicate, names = row
            metric = next((name for name, end in _OPCLASSES.items() if opclass.endswith(end)), None)
            if metric is None:
                # Of bits: their distance ranks other values than the column has.
                continue
            shown = expression if is_expression else sql.Identifier(column).as_string(self._connection)
            found.append(SearchIndex(method, metric, shown, kind, predicate, tuple(names)))
        return found

    def draw(self, size: int, *, seed: str) -> tuple[list[DrawnRow], int]:
        """Return rows with a new vector and a text, evenly over the table, and how many rows there are in all."""
        text: sql.Composable = sql.SQL("r.content")
        is_bytes = server_encoding(self._connection) == "SQL_ASCII"
        if is_bytes:
            text = sql.SQL("convert_to(r.content, 'SQL_ASCII')")
        query = statement("compare", "drawn", {**self._words, "text": text})
        with transaction(self._connection, is_long=True):
            pin_text_form(self._connection)
            rows = self._connection.execute(query, {"size": size, "seed": seed}).fetchall()
        drawn = [
            DrawnRow(
                key,
                words.decode("utf-8", "replace") if is_bytes else words,
                None if old is None else array_of(old),
                array_of(new),
            )
            for _, key, words, old, new in rows
        ]
        return drawn, int(rows[0][0]) if rows else 0

    def blocks(self, old: SearchIndex | None, new: SearchIndex | None) -> Iterator[Block]:
        """Yield all rows that have a vector, in one pass over the table, as the caller takes them."""
        predicates = {"old_predicate": _predicate(old), "new_predicate": _predicate(new)}
        query = statement("compare", "vectors", {**self._words, **predicates})
        with transaction(self._connection, is_long=True):
            pin_text_form(self._connection)
            with self._connection.cursor() as cursor, cursor.copy(query) as copy:
                block = _empty()
                for key, old_raw, new_raw, belongs, in_old, in_new in copy.rows():
                    name = bytes(key).decode()
                    is_pair = old_raw is not None and new_raw is not None and bytes(belongs) == b"\x01"
                    if old_raw is not None:
                        block.old_keys.append(name)
                        block.old.append(bytes(old_raw))
                        block.old_is_indexed.append(bytes(in_old) == b"\x01")
                        block.old_belongs.append(is_pair)
                    if new_raw is not None:
                        block.new_keys.append(name)
                        block.new.append(bytes(new_raw))
                        block.new_is_indexed.append(bytes(in_new) == b"\x01")
                        block.new_belongs.append(is_pair)
                    if max(len(block.old), len(block.new)) >= BLOCK_ROWS:
                        yield block
                        block = _empty()
                yield block

    def uses(self, index: SearchIndex, vector: NDArray[np.float32], *, limit: int) -> bool:
        """Return whether the server takes this index for such a query."""
        explain = statement("reader", "explain", {"query": self._nearest(index)})
        with transaction(self._connection, is_long=True, settings=self._settings(index, limit)):
            (plan,) = fetch_row(self._connection, explain, {"vector": Vector(vector), "limit": limit})
        shown = json.dumps(plan)
        return any(f'"Index Name": {json.dumps(name)}' in shown for name in index.names)

    def search(self, index: SearchIndex, vector: NDArray[np.float32], *, limit: int) -> IndexedSearch:
        """Return the nearest rows as the index finds them."""
        query, values = self._nearest(index), {"vector": Vector(vector), "limit": limit}
        with transaction(self._connection, is_long=True, settings=self._settings(index, limit)):
            pin_text_form(self._connection)
            started = time.perf_counter()
            rows = self._connection.execute(query, values).fetchall()
            seconds = time.perf_counter() - started
        return IndexedSearch(tuple(row[0] for row in rows), tuple(float(row[1]) for row in rows), seconds)

    def ef_search(self) -> int | None:
        """Return `hnsw.ef_search` as this role has it; None where it is not known."""
        (value,) = fetch_row(self._connection, statement("compare", "ef_search"))
        return int(value) if value else None

    def _nearest(self, index: SearchIndex) -> Statement:
        words = {
            **self._words,
            # As the server itself prints them.
            "expression": sql.SQL(index.expression),
            "predicate": _predicate(index),
            "kind": sql.SQL(index.kind),
            "distance": operator(OPERATORS[index.metric], self._schema),
        }
        return statement("compare", "nearest", words)

    def _settings(self, index: SearchIndex, limit: int) -> Mapping[str, str]:
        # Otherwise as the role has it: what an application would find is measured.
        settings = {"enable_seqscan": "off"}
        if index.method == "hnsw" and limit > MIN_EF_SEARCH:
            settings["hnsw.ef_search"] = str(limit)
        return settings


def matrix(
    raw: Sequence[bytes], chosen: Sequence[bool], *, dimensions: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Return the chosen vectors of these dimensions as rows, and their places; `raw` as pgvector sends them."""
    size = 4 + 4 * dimensions
    places = [place for place, (one, is_chosen) in enumerate(zip(raw, chosen, strict=True)) if is_chosen]
    places = [place for place in places if len(raw[place]) == size]
    joined = b"".join(raw[place][4:] for place in places)
    rows = np.frombuffer(joined, dtype=">f4").reshape(len(places), dimensions)
    return rows.astype(np.float32), places


def _predicate(index: SearchIndex | None) -> sql.Composable:
    return sql.SQL(index.predicate) if index is not None and index.predicate else sql.SQL("true")


def _empty() -> Block:
    return Block([], [], [], [], [], [], [], [])
