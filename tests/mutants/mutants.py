"""The mutants: one broken rule each, with the seeds of the simulator, or the tests, that notice it."""

from __future__ import annotations

from mutants.apply import Mutant

QUEUE, LEDGER, FILLING = "postgres/sql/queue.sql", "postgres/sql/ledger.sql", "postgres/sql/filling.sql"

_HELD = """ WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} NOT IN ('pending', 'completed', 'failed')
   AND {files_queue_id} = ANY(%(ids)s);"""
_WITHIN_GATE = "       AND q.{files_queue_phase} <= (SELECT phase FROM gate)\n"
_COMPLETED = """   SET {files_queue_status} = 'completed', {files_queue_claim_id} = NULL,
       {files_queue_lease_until} = NULL, {files_queue_last_error} = NULL
"""

MUTANTS = (
    Mutant(
        "complete without the claim's id",
        QUEUE,
        _HELD,
        " WHERE %(claim_id)s::uuid IS NOT NULL AND {files_queue_id} = ANY(%(ids)s);",
        first=3,
    ),
    Mutant(
        "COPY after the completing transaction",
        "postgres/writer.py",
        "            self.store(connection, *batches)\n"
        "            record_batches(connection, self._tables, batches)",
        "        self.store(connection, *batches)\n        record_batches(connection, self._tables, batches)",
    ),
    Mutant(
        "complete without a count",
        "postgres/queue.py",
        '_check_fence(self._connection.execute(self._sql("complete"), values).rowcount, len(ids))',
        'self._connection.execute(self._sql("complete"), values)',
        first=2,
    ),
    Mutant(
        "the same batch completes twice after a lost COMMIT",
        QUEUE,
        _COMPLETED + _HELD,
        "   SET {files_queue_status} = 'completed', {files_queue_last_error} = NULL\n"
        " WHERE {files_queue_claim_id} = %(claim_id)s AND {files_queue_id} = ANY(%(ids)s);",
        first=3,
    ),
    Mutant(
        "a lease by the client's clock",
        "postgres/queue.py",
        '            "lease_s": lease_s,\n            "generation"',
        '            "lease_s": lease_s + (datetime.now().timestamp() - self.server_time().timestamp()),\n'
        '            "generation"',
    ),
    Mutant(
        "reap takes claims whose lease runs",
        QUEUE,
        "q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} < now()\n",
        "q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NOT NULL\n",
    ),
    Mutant(
        "reap takes every worker for dead",
        "postgres/queue.py",
        "dead = [worker for worker in workers if is_dead(worker)]",
        "dead = list(workers)",
    ),
    Mutant(
        "a process is known by its number alone",
        "identity.py",
        "if found is None or not parts[1].isdigit() or found[1] != process_table():",
        "if found is None or not parts[1].isdigit():",
        first=2,
    ),
    Mutant(
        "release without the claim's id",
        QUEUE,
        "       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL\n"
        " WHERE {files_queue_claim_id} = %(claim_id)s\n",
        "       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL\n"
        " WHERE %(claim_id)s::uuid IS NOT NULL\n",
        first=16,
    ),
    Mutant("no gate", QUEUE, _WITHIN_GATE, ""),
    Mutant(
        "a gate that counts what is completed",
        QUEUE,
        _WITHIN_GATE,
        "       AND (SELECT count(*) FROM {files_queue} d WHERE d.{files_queue_status} = 'completed')\n"
        "           < (CASE (SELECT phase FROM gate) WHEN 0 THEN 0 WHEN 1 THEN 3 WHEN 2 THEN 8 ELSE 1000 END)\n",
    ),
    Mutant(
        "a claim of any filling",
        QUEUE,
        "       AND coalesce((SELECT s.generation FROM ragops.source s JOIN this USING (queue)), 0)"
        " = %(generation)s\n",
        "       AND %(generation)s IS NOT NULL\n",
        first=2,
    ),
    Mutant(
        "undo does not raise the generation",
        FILLING,
        "   SET source = excluded.source, generation = s.generation + 1, fingerprint = excluded.fingerprint,\n",
        "   SET source = excluded.source, fingerprint = excluded.fingerprint,\n",
        tests=("integration/test_db_filling.py::test_what_begins_another_filling[pg18]",),
    ),
    Mutant(
        "undo does not bring back the queue's source",
        "postgres/filling.py",
        '"source": _optional(connection, known.get("source")),',
        '"source": None,',
        first=3,
    ),
    Mutant(
        "an earlier controller empties and fills: neither the transaction nor its record looks at the epoch",
        "postgres/ledger.py",
        "if row is None or row[0] != self.epoch:",
        "if row is None:",
        also=(
            (
                LEDGER,
                "   SET status = 'done', finished_at = clock_timestamp(), effect = %(effect)s, error = NULL\n"
                "  FROM ragops.campaign c\n WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s",
                "   SET status = 'done', finished_at = clock_timestamp(), effect = %(effect)s, error = NULL\n"
                "  FROM ragops.campaign c\n WHERE c.id = %(campaign)s AND %(epoch)s::bigint > 0",
            ),
        ),
    ),
    Mutant(
        "a takeover that keeps the epoch",
        LEDGER,
        "   SET epoch = epoch + 1, holder = %(holder)s, status = 'running', error = NULL,\n",
        "   SET holder = %(holder)s, status = 'running', error = NULL,\n",
    ),
    Mutant(
        "a takeover that does not look at the lease",
        "postgres/ledger.py",
        "if row.holder and row.holder != holder_name() and is_held(row):",
        "if row.holder and row.holder == 'nobody':",
        first=2,
    ),
    Mutant(
        "a renewal that does not look at the epoch",
        LEDGER,
        " WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s\n   AND lease_until < clock_timestamp()",
        " WHERE campaign_id = %(campaign)s AND %(epoch)s::bigint > 0\n   AND lease_until < clock_timestamp()",
        first=2,
    ),
    Mutant(
        "records that do not look at the epoch",
        LEDGER,
        "   SET status = 'running', started_at = coalesce(s.started_at, clock_timestamp()), error = NULL\n"
        "  FROM ragops.campaign c\n"
        " WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s",
        "   SET status = 'running', started_at = coalesce(s.started_at, clock_timestamp()), error = NULL\n"
        "  FROM ragops.campaign c\n"
        " WHERE c.id = %(campaign)s AND %(epoch)s::bigint > 0",
    ),
    Mutant(
        "an end that does not look at the epoch",
        LEDGER,
        "'undone') THEN clock_timestamp() END\n     WHERE id = %(campaign)s AND epoch = %(epoch)s\n",
        "'undone') THEN clock_timestamp() END\n     WHERE id = %(campaign)s AND %(epoch)s::bigint > 0\n",
    ),
    Mutant(
        "undo leaves the campaign's epoch",
        LEDGER,
        "       SET status = 'undone', error = NULL, epoch = epoch + 1, holder = NULL, lease_until = NULL,\n",
        "       SET status = 'undone', error = NULL, holder = NULL, lease_until = NULL,\n",
    ),
    Mutant(
        "an archive after the tables were emptied",
        "campaign/steps/empty_tables.py",
        "                emptied = _chosen(now, self.settings)\n",
        "                emptied = _chosen(now, self.settings)\n"
        "                for removal in composed.removals:\n"
        "                    session.connection.execute(removal)\n"
        "                now = session.facts(exact=True)\n"
        "                composed = emptying(now, self.settings, numbers=numbers)\n",
        first=3,
    ),
    Mutant(
        "a fleet of any vector space",
        "workers/space.py",
        "        if differences:\n            return self._take_over(filling, space, differences)\n",
        "",
        first=2,
    ),
    Mutant(
        "a fleet takes the place of one that has embedded",
        "postgres/filling.py",
        '"is_begun", identifiers_of(tables)))[0]:\n        return False\n',
        '"is_begun", identifiers_of(tables)))[0]:\n        pass\n',
        first=6,
    ),
    Mutant(
        "undo by the table's name",
        "postgres/restore.py",
        "    if archive.table_oid is None:\n",
        "    if archive.table_oid is None or archive.table_oid:\n",
        tests=("acceptance/test_undo.py::test_a_renamed_table_gets_its_rows",),
    ),
    Mutant(
        "undo forgets rows that came later",
        "campaign/undo.py",
        "    _remove(connection, now.restorations)\n",
        "",
    ),
    Mutant(
        "filling without a lock",
        "postgres/queue.py",
        "        self.lock()\n        self._require_empty()\n        # Imported here",
        "        self._require_empty()\n        # Imported here",
        tests=("acceptance/test_seeding.py::test_of_two_that_fill_the_queue_at_once_one_is_refused",),
    ),
)
