"""Write the vectors of rows that stay: complete their claims, then UPDATE the vector column, in one transaction.

A vector is stored only in a row that has the text which was embedded, and, in place, the vector that it had then.
The items of other rows return to the queue, so that nothing of another writer is overwritten.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from psycopg import Rollback, sql

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, set_parameter_sql, transaction
from ragops.postgres.copy_binary import (
    HEADER,
    TRAILER,
    bytes_fields,
    encode_rows,
    fields_of,
    has_fields,
    int8_fields,
    plain_type,
    text_fields,
    vector_fields,
)
from ragops.postgres.queue import Queue
from ragops.postgres.refusals import refusal_of
from ragops.postgres.row_leftovers import Leftovers, check_same_table, keep_only
from ragops.postgres.row_relation import parse_keys, target_of
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.row_work import ROW_EMPTY, ROW_GONE, RowWork, matching
from ragops.postgres.statements import statement
from ragops.postgres.writer import IDLE_S, Batch, DocumentRow, Stored, record_batches


class RowWriter:
    """Writes batches into the vector columns of targets."""

    def __init__(self, tables: Tables, work: RowWork) -> None:
        self._tables = tables
        self._work = work

    def write(self, connection: Connection, *batches: Batch) -> Stored:
        """Store all batches, or none of them. Raises FenceLost, with nothing written."""
        queue = Queue(connection, self._tables)
        settings = {"idle_in_transaction_session_timeout": f"{IDLE_S}s"}
        dropped: set[Any] = set()
        with transaction(connection, lock_timeout_s=0, is_long=True, settings=settings):
            for batch in batches:
                gone = [id for id, reason in batch.failures if reason in (ROW_GONE, ROW_EMPTY)]
                dropped.update(gone)
                queue.complete(batch.claim, [document.item_id for document in batch.documents])
                queue.fail(batch.claim, [pair for pair in batch.failures if pair[0] not in dropped])
                queue.drop(batch.claim, gone)
            left = Leftovers()
            done = self.store(connection, *batches, left=left)
            every = {document.item_id for batch in batches for document in batch.documents}
            undone = frozenset(every - done)
            refused = left.settle(connection, undone) if undone else frozenset[Any]()
            record_batches(connection, self._tables, batches, without=undone)
            for facts in self._work.facts:
                check_same_table(connection, facts.table)
        return Stored(undone - refused, frozenset(dropped), refused)

    def is_written(self, connection: Connection, *batches: Batch, worker: str) -> bool:
        """Return whether the worker has stored all of these batches already, in a transaction before.

        False, too, if a part of their items returned to the queue then.
        """
        ids = [document.item_id for batch in batches for document in batch.documents]
        ids += [id for batch in batches for id, _ in batch.failures]
        return Queue(connection, self._tables).finished(ids, worker=worker) == len(ids)

    def store(self, connection: Connection, *batches: Batch, left: Leftovers | None = None) -> set[Any]:
        """Write the vectors of the batches' rows, in the caller's transaction; return the items that are done.

        `left` is told about the others. Without it this is a proof: the vectors are written over whatever vectors
        the rows have, in a transaction that is rolled back.
        """
        by_target: dict[tuple[int, str], list[DocumentRow]] = defaultdict(list)
        for batch in batches:
            for document in batch.documents:
                by_target[target_of(document.location), batch.metrics.fingerprint].append(document)
        if not by_target:
            return set()
        pin_text_form(connection)
        connection.execute(statement("rows", "plan_by_key"))
        done: set[Any] = set()
        for place, ((number, fingerprint), rows) in enumerate(sorted(by_target.items()), start=1):
            incoming = sql.Identifier(f"ragops_incoming_{place}")
            if self._work.facts[number - 1].silences_triggers:
                connection.execute(set_parameter_sql("session_replication_role", "replica"))
            done.update(self._store_target(connection, number, fingerprint, rows, incoming, left))
            if self._work.facts[number - 1].silences_triggers:
                connection.execute(set_parameter_sql("session_replication_role", "origin"))
        return done

    def accepts(self, connection: Connection, batch: Batch) -> bool:
        """Return whether the tables still take rows that they took before: store them and roll back.

        False, too, if none of these rows has the text any more: that proves nothing.
        """
        done = set[Any]()
        try:
            with transaction(connection):
                done = self.store(connection, batch)
                connection.execute(sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"))
                raise Rollback()
        except Exception as error:
            if refusal_of(error) is None:
                raise
            return False
        return bool(done)

    def _store_target(
        self,
        connection: Connection,
        number: int,
        fingerprint: str,
        documents: Sequence[DocumentRow],
        incoming: sql.Identifier,
        left: Leftovers | None,
    ) -> set[Any]:
        words = {**self._work.words(number), "incoming": incoming}
        connection.execute(statement("rows", "create_incoming", words))
        facts = self._work.facts[number - 1]
        keys = parse_keys([document.location for document in documents])
        key_fields = [
            _key_fields(list(values), column.stored_type)
            for values, column in zip(zip(*keys, strict=True), facts.key, strict=True)
        ]
        vectors = vector_fields(np.stack([document.vector for document in documents]))
        columns = [
            int8_fields([document.item_id for document in documents]),
            *key_fields,
            text_fields(document.location.partition(":")[2] for document in documents),
            bytes_fields(bytes.fromhex(document.content_hash) for document in documents),
            bytes_fields(document.version for document in documents),
            vectors,
            bytes_fields(self._new_hashes(number, vectors)),
        ]
        with connection.cursor() as cursor, cursor.copy(statement("rows", "copy_incoming", words)) as copy:
            copy.write(HEADER + encode_rows(columns) + TRAILER)
        words = self._store_words(number, fingerprint, words, is_proof=left is None)
        store = statement("rows", "store", words)
        done = {row[0] for row in connection.execute(store).fetchall()}
        undone = {document.item_id for document in documents} - done
        if left is not None and undone and (free := left.look_at(connection, words, undone)):
            # A row that changed between the statement's snapshot and its lock, in another column, is there now.
            keep_only(connection, words, free)
            again = {row[0] for row in connection.execute(store).fetchall()}
            left.refused |= free - again
            done |= again
        return done

    def _new_hashes(self, number: int, vectors: Sequence[bytes]) -> Iterator[bytes | None]:
        """Yield the hashes that the archive keeps of what is written; None where the server has to make them.

        COPY takes a `vector` in the form of `vector_send`, behind its length. Servers without OpenSSL take ten
        times as long for a hash. A `halfvec` is what the server makes of it, and a trigger may change the vector.
        """
        facts = self._work.facts[number - 1]
        is_known = (
            facts.kind == "vector" and not facts.fired and self._work.filling.archives[number - 1] is not None
        )
        for field in vectors:
            yield hashlib.sha256(field[4:]).digest() if is_known else None

    def _store_words(
        self, number: int, fingerprint: str, words: dict[str, sql.Composable], *, is_proof: bool
    ) -> dict[str, sql.Composable]:
        """Return the placeholders of the statement that moves vectors from the temporary table into a target."""
        facts, filling = self._work.facts[number - 1], self._work.filling
        archive, nothing = filling.archives[number - 1], sql.SQL("")
        words = {
            **words,
            "type": words["kind"],
            "match": matching(facts, "i"),
            "target": sql.Literal(filling.ids[number - 1]),
            "fingerprint": sql.Literal(fingerprint),
            "unchanged": nothing,
            "archived": nothing,
            "differs": nothing,
            "same": nothing,
        }
        if is_proof:
            return words
        if facts.filled == facts.embedding:
            words["unchanged"] = statement("rows", "unchanged", words)
        if archive is not None:
            words["archived"] = statement(
                "rows", "archived", {**words, "archive": sql.Identifier("ragops", archive)}
            )
        if filling.max_distance is not None:
            limit = {**words, "max_distance": sql.Literal(filling.max_distance)}
            limit["divergence"] = statement("rows", "divergence", limit)
            words["differs"], words["same"] = statement("rows", "differs", limit), statement("rows", "same", limit)
        return words


def _key_fields(values: Sequence[str], type_name: str) -> list[bytes]:
    """Encode the values of a key column, as text where COPY's format of the type is not known here."""
    match plain_type(type_name):
        case "bigint" | "integer" | "smallint":
            return fields_of([int(value) for value in values], type_name)
        case _ if has_fields(type_name, is_vector=False):
            return fields_of(values, type_name)
        case _:
            return text_fields(values)
