-- The queue of documents. An item is claimed for the time of a lease; whoever completes, fails or releases it proves
-- the claim by its id. A phase orders items: those of phases behind an unfinished campaign's gate stay where they are.

-- name: gate
-- The last phase whose items may be claimed: that of this queue's unfinished campaign, else the last one there is. A
-- campaign of an older version names no queue and holds for all of them.
SELECT coalesce(
    (SELECT c.phase FROM ragops.campaign c
      WHERE c.status NOT IN ('done', 'abandoned', 'undone')
        AND ({campaign_queue} IS NULL OR {campaign_queue} = {queue_key})
      ORDER BY c.id DESC LIMIT 1),
    {last_phase}) AS phase;

-- name: claim
-- Claims up to `size` pending items in the order of phase and id, and returns them in that order.
-- SKIP LOCKED: claims at the same time get different items, and none waits for another.
-- It takes nothing from another filling of the queue than that of `generation`: the claimant would read the new items'
-- locations in the old source. Whatever fills or empties the queue locks it against writers, so that a claim that
-- waited for the lock sees the new generation.
-- With a cursor the scan starts behind it. Otherwise it reads the index entries of completed items at the front again
-- and again while a long transaction elsewhere keeps vacuum from removing them: 185 ms per claim instead of 2.5
-- a cursor 2.5 ms, after 366,666 completions (benchmarks/queue_claims.py).
WITH this AS MATERIALIZED (SELECT {this_queue} AS queue
), gate AS ({gate}
), picked AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'pending'
       AND coalesce((SELECT s.generation FROM ragops.source s JOIN this USING (queue)), 0) = %(generation)s
       AND q.{files_queue_phase} <= (SELECT phase FROM gate)
       AND ((q.{files_queue_phase}, q.{files_queue_id}) <= (%(last_phase)s, %(last_id)s) OR %(last_id)s IS NULL)
       AND ((q.{files_queue_phase}, q.{files_queue_id}) > (%(after_phase)s, %(after_id)s)
            OR %(after_id)s IS NULL)
     ORDER BY q.{files_queue_phase}, q.{files_queue_id}
     LIMIT %(size)s
       FOR UPDATE OF q SKIP LOCKED
), taken AS (
    UPDATE {files_queue} q
       SET {files_queue_status} = 'processing',
           {files_queue_claim_id} = %(claim_id)s,
           {files_queue_claimed_by} = %(worker)s,
           {files_queue_lease_until} = clock_timestamp() + make_interval(secs => %(lease_s)s)
      FROM picked
     WHERE q.{files_queue_id} = picked.id
    RETURNING q.{files_queue_id} AS id, q.{files_queue_location}::text AS location, q.{files_queue_phase} AS phase
)
-- UPDATE ... RETURNING has no order. The last row is the next claim's cursor, so it must be sorted as the index is;
-- for text that depends on the collation, which the client does not know.
SELECT id, location, phase FROM taken ORDER BY phase, id;

-- name: complete
-- Marks items of a claim as completed. The row count tells the caller whether the claim still held all of them.
-- NOT IN instead of = 'processing', here and in `fail`, `release` and `extend_leases`: the predicate of the lease
-- index must not match. While statistics say that no item is processed, the planner would read that index from end
-- to end instead of looking up the claim.
UPDATE {files_queue}
   SET {files_queue_status} = 'completed', {files_queue_claim_id} = NULL,
       {files_queue_lease_until} = NULL, {files_queue_last_error} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} NOT IN ('pending', 'completed', 'failed')
   AND {files_queue_id} = ANY(%(ids)s);

-- name: finished
-- How many of some items a worker has finished: whoever completes or fails an item leaves the claimant's name in it.
SELECT count(*) FROM {files_queue}
 WHERE {files_queue_id} = ANY(%(ids)s) AND {files_queue_claimed_by}::text = %(worker)s
   AND {files_queue_status} IN ('completed', 'failed') AND {files_queue_claim_id} IS NULL;

-- name: fail
-- Marks items of a claim as failed, each with its reason, in one statement.
UPDATE {files_queue} q
   SET {files_queue_status} = 'failed', {files_queue_claim_id} = NULL, {files_queue_lease_until} = NULL,
       {files_queue_attempts} = q.{files_queue_attempts} + 1, {files_queue_last_error} = f.reason
  FROM unnest(%(ids)s, %(reasons)s::text[]) AS f (id, reason)
 WHERE q.{files_queue_claim_id} = %(claim_id)s
   AND q.{files_queue_status} NOT IN ('pending', 'completed', 'failed')
   AND q.{files_queue_id} = f.id;

-- name: release
-- Puts what is left of a claim back into the queue.
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} NOT IN ('pending', 'completed', 'failed');

-- name: extend_leases
-- Extends the leases of claims, but only those of which less than half is left: a heartbeat every few seconds must
-- not rewrite every claimed row. SKIP LOCKED: a locked row is being completed at this moment. Waiting for it could
-- end in a deadlock with a completion that locks the same rows in another order, and it needs no lease any more.
WITH due AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_claim_id} = ANY(%(claim_ids)s)
       AND q.{files_queue_status} NOT IN ('pending', 'completed', 'failed')
       AND (q.{files_queue_lease_until} IS NULL
            OR q.{files_queue_lease_until} < clock_timestamp() + make_interval(secs => %(lease_s)s) / 2)
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_lease_until} = clock_timestamp() + make_interval(secs => %(lease_s)s)
  FROM due WHERE q.{files_queue_id} = due.id;

-- name: reap_expired
-- Puts items back into the queue whose lease expired (not before `since`), or that have a claim and no lease. Those
-- that have neither are another program's.
-- now() instead of clock_timestamp(): an index condition must be stable within the statement. Two selects instead of
-- an OR, for which the planner would read the whole index of leases, and no IS NOT NULL, for which it would read that
-- of claims.
WITH expired AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} < now()
       AND q.{files_queue_lease_until} >= coalesce(%(since)s::timestamptz, '-infinity')
       FOR UPDATE OF q SKIP LOCKED
), unleased AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NULL
       AND num_nonnulls(q.{files_queue_claim_id}) = 1
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
  FROM (SELECT id FROM expired UNION ALL SELECT id FROM unleased) abandoned
 WHERE q.{files_queue_id} = abandoned.id;

-- name: claimants
-- The workers that hold items under a live lease. Expired leases are `reap_expired`'s business.
SELECT DISTINCT {files_queue_claimed_by}::text FROM {files_queue}
 WHERE {files_queue_status} = 'processing' AND {files_queue_claimed_by} IS NOT NULL
   AND {files_queue_lease_until} >= now();

-- name: release_claimants
-- Puts items of workers that are known to be dead back into the queue, before their leases expire.
WITH abandoned AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_claimed_by}::text = ANY(%(workers)s)
       AND q.{files_queue_lease_until} >= now()
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
  FROM abandoned WHERE q.{files_queue_id} = abandoned.id;

-- name: taken_by_others
-- Items in process without a lease and a claim: another program works on them. Place and version change with a row.
SELECT q.{files_queue_id}, q.ctid::text, q.xmin::text FROM {files_queue} q
 WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NULL
   AND q.{files_queue_claim_id} IS NULL
 LIMIT %(limit)s;

-- name: return_unchanged
-- Puts those of them back into the queue that are still the same rows.
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claimed_by} = NULL
  FROM unnest(%(ids)s, %(places)s::text[], %(versions)s::text[]) AS f (id, place, version)
 WHERE q.{files_queue_id} = f.id AND q.ctid::text = f.place AND q.xmin::text = f.version
   AND q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NULL
   AND q.{files_queue_claim_id} IS NULL;

-- name: return_all
-- Puts all of them back into the queue.
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claimed_by} = NULL
 WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NULL
   AND q.{files_queue_claim_id} IS NULL;

-- name: retry_failed
-- Puts failed items back into the queue, but not those that were excluded. They keep their number of attempts.
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_last_error} = NULL
 WHERE {files_queue_status} = 'failed'
   AND starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (') = %(excluded)s;

-- name: counts
-- Items by status; a status without items has no row. A scan of the whole queue. As text, here and in the next
-- statements, because a value of char(n) comes with its blanks. A failed item that was excluded counts as that. By way
-- of JSON, because another tool's queue may lack the column.
SELECT CASE WHEN q.{files_queue_status} = 'failed'
             AND starts_with(coalesce(to_jsonb(q)->>{last_error}, ''), 'excluded (') THEN 'excluded'
            ELSE q.{files_queue_status}::text END,
       count(*)
  FROM {files_queue} q GROUP BY 1;

-- name: candidates
-- The items that may be excluded: those that wait or have failed, with their locations.
SELECT q.{files_queue_id}, q.{files_queue_location}::text, q.{files_queue_status} = 'failed' FROM {files_queue} q
 WHERE q.{files_queue_status} = 'pending'
    OR (q.{files_queue_status} = 'failed'
        AND NOT starts_with(coalesce(q.{files_queue_last_error}::text, ''), 'excluded ('));

-- name: exclude
-- Excludes items: they count no more and nobody claims them. What was known of them stays in the reason, as far as the
-- column is long enough.
UPDATE {files_queue} q
   SET {files_queue_status} = 'failed',
       {files_queue_last_error} = left(
           'excluded (' || %(pattern)s || '): '
           || CASE WHEN q.{files_queue_status} = 'failed'
                   THEN 'failed, ' || coalesce(q.{files_queue_last_error}::text, 'for an unknown reason')
                   ELSE 'pending' END, %(limit)s)
 WHERE q.{files_queue_id} = ANY(%(ids)s)
   AND (q.{files_queue_status} = 'pending'
        OR (q.{files_queue_status} = 'failed'
            AND NOT starts_with(coalesce(q.{files_queue_last_error}::text, ''), 'excluded (')));

-- name: open_items
-- Pending and processing items up to a phase and, if given, a place in the order of claims.
-- Two counts instead of one with IN: each status has its own partial index.
SELECT (SELECT count(*) FROM {files_queue}
         WHERE {files_queue_status} = 'pending' AND {files_queue_phase} <= %(phase)s
           AND (({files_queue_phase}, {files_queue_id}) <= (%(last_phase)s, %(last_id)s) OR %(last_id)s IS NULL)),
       (SELECT count(*) FROM {files_queue}
         WHERE {files_queue_status} = 'processing' AND {files_queue_phase} <= %(phase)s
           AND (({files_queue_phase}, {files_queue_id}) <= (%(last_phase)s, %(last_id)s) OR %(last_id)s IS NULL));

-- name: nth_open
-- Phase and id at a position among pending and processing items, in the order in which they are claimed: ids alone
-- may have another order, such as uuids.
SELECT {files_queue_phase}, {files_queue_id} FROM {files_queue}
 WHERE {files_queue_status} IN ('pending', 'processing')
 ORDER BY {files_queue_phase}, {files_queue_id} OFFSET %(offset)s LIMIT 1;

-- name: failures
-- The first failed items with their reasons (NULL: all of them), without those that were excluded.
SELECT {files_queue_location}::text, {files_queue_last_error}::text FROM {files_queue}
 WHERE {files_queue_status} = 'failed'
   AND NOT starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (')
 ORDER BY {files_queue_id} LIMIT %(limit)s;

-- name: excluded
-- The excluded items, like `failures`.
SELECT {files_queue_location}::text, {files_queue_last_error}::text FROM {files_queue}
 WHERE {files_queue_status} = 'failed' AND starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (')
 ORDER BY {files_queue_id} LIMIT %(limit)s;

-- name: excluded_by
-- Whether a pattern has excluded items.
SELECT EXISTS (SELECT 1 FROM {files_queue}
                WHERE {files_queue_status} = 'failed'
                  AND starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (' || %(pattern)s || '):'));

-- name: reasons
-- The reasons of failed items, each with its number and one location, the most frequent first.
SELECT {files_queue_last_error}::text, count(*), min({files_queue_location}::text COLLATE "C") FROM {files_queue}
 WHERE {files_queue_status} = 'failed'
   AND NOT starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (')
 GROUP BY 1 ORDER BY 2 DESC, 1;

-- name: frequent_suffix
-- The suffix that most of the failed items have, and how many; no row where none has any.
SELECT substring({files_queue_location}::text FROM '[.][A-Za-z0-9]{{1,12}}$'), count(*) FROM {files_queue}
 WHERE {files_queue_status} = 'failed'
   AND NOT starts_with(coalesce({files_queue_last_error}::text, ''), 'excluded (')
   AND {files_queue_location}::text ~ '[.][A-Za-z0-9]{{1,12}}$'
 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1;

-- name: sample_locations
-- Locations from anywhere in the queue. SYSTEM reads about 20 of its pages, not all of a million rows; all pages of a
-- queue of unknown size, or of one in partitions.
SELECT q.{files_queue_location}::text FROM {files_queue} q
       TABLESAMPLE SYSTEM (coalesce((SELECT least(100, 2000.0 / greatest(c.relpages, 1)) FROM pg_class c
                                      WHERE c.oid = (SELECT tableoid FROM {files_queue} LIMIT 1)), 100))
 ORDER BY random() LIMIT %(size)s;

-- name: is_begun
-- Whether an item is or was embedded.
SELECT EXISTS (SELECT 1 FROM {files_queue} WHERE {files_queue_status} = 'processing')
    OR EXISTS (SELECT 1 FROM {files_queue} WHERE {files_queue_status} = 'completed');

-- name: is_filled
-- Whether the queue holds any item.
SELECT EXISTS (SELECT 1 FROM {files_queue});

-- name: foreign_documents
-- Stored documents that come from none of these locations.
SELECT count(*) FROM {documents}
 WHERE {documents_file_path} IS NULL OR NOT {documents_file_path} = ANY(%(locations)s::text[]);

-- name: distinct_locations
-- Different locations. COLLATE "C" because the order does not matter, and that of a language is slower.
SELECT count(DISTINCT {files_queue_location}::text COLLATE "C") FROM {files_queue};

-- name: lock
-- Keeps other writers out until the end of the transaction, claims too: two that fill the queue at once would both
-- find it empty. Readers go on.
LOCK TABLE {files_queue} IN SHARE ROW EXCLUSIVE MODE;

-- name: repeated_locations
-- Items whose location another item has, too: each location counts once. A scan of the whole queue.
SELECT count(*) - count(DISTINCT {files_queue_location}::text COLLATE "C") FROM {files_queue};

-- name: snapshot
-- Makes all statements of a transaction see the same rows. Must be its first statement.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: seed
-- Fills the queue with locations that the client streams, with their phases.
COPY {files_queue} ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
FROM STDIN;

-- name: create_incoming
-- A temporary table for locations to append, in the type that the queue has them in; gone with the transaction.
CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS
SELECT 0::bigint AS position, q.{files_queue_location} AS location FROM {files_queue} q WITH NO DATA;

-- name: copy_incoming
-- Receives locations that the client streams.
COPY incoming (position, location) FROM STDIN;

-- name: append_incoming
-- Queues the incoming locations that are not in the queue yet, each once, in the order they came in.
INSERT INTO {files_queue}
       ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
SELECT i.location, 'pending', 0, %(phase)s
  FROM (SELECT location, min(position) AS position FROM incoming GROUP BY location) i
 WHERE NOT EXISTS (SELECT 1 FROM {files_queue} q WHERE q.{files_queue_location} = i.location)
 ORDER BY i.position;

-- name: seed_rows
-- Fills the queue from rows of the same database. width_bucket() counts the gates at or below the number of rows
-- before this one. The gates are literals, so that the statement can be printed before it runs.
INSERT INTO {files_queue}
       ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
SELECT source.id::text, 'pending', 0,
       1 + width_bucket(row_number() OVER (ORDER BY source.id) - 1, {gates}::bigint[])
  FROM {relation}
 WHERE source.id IS NOT NULL
 ORDER BY source.id;

-- name: insert_incoming
-- Takes the locations to append from rows of the same database.
INSERT INTO incoming (position, location)
SELECT row_number() OVER (ORDER BY source.id), source.id::text FROM {relation} WHERE source.id IS NOT NULL;

-- name: analyze
-- Statistics of a queue that was just filled: without them the planner takes it to be as empty as it was.
ANALYZE {files_queue};

-- name: analyze_incoming
-- Statistics of the incoming locations: autovacuum never analyzes temporary tables.
ANALYZE incoming;

-- name: server_time
-- The clock that leases end on.
SELECT clock_timestamp();
