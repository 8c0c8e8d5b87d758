-- name: claim
-- An unfinished campaign's phase is the gate; without one every phase is open.
-- With a mark the scan starts behind it: dead entries of the index's front, which a long transaction
-- elsewhere keeps from being removed, are not read over and over.
WITH gate AS (
    SELECT coalesce(
        (SELECT c.phase FROM ragops.campaign c
          WHERE c.status NOT IN ('done', 'abandoned', 'undone') ORDER BY c.id DESC LIMIT 1),
        32767) AS phase
), picked AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'pending'
       AND q.{files_queue_phase} <= (SELECT phase FROM gate)
       AND (q.{files_queue_id} <= %(last_id)s OR %(last_id)s IS NULL)
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
    RETURNING q.{files_queue_id} AS id, q.{files_queue_location} AS location, q.{files_queue_phase} AS phase
)
-- Sorted here: the mark is the last row in the index's order, which for text is the collation's.
SELECT id, location, phase FROM taken ORDER BY phase, id;

-- name: complete
-- Here and below, `NOT IN` instead of `= 'processing'`: with that the index of leases would serve too, and be read
-- from end to end while the planner believes that no item is processed.
UPDATE {files_queue}
   SET {files_queue_status} = 'completed', {files_queue_claim_id} = NULL,
       {files_queue_lease_until} = NULL, {files_queue_last_error} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} NOT IN ('pending', 'completed', 'failed')
   AND {files_queue_id} = ANY(%(ids)s);

-- name: fail
UPDATE {files_queue} q
   SET {files_queue_status} = 'failed', {files_queue_claim_id} = NULL, {files_queue_lease_until} = NULL,
       {files_queue_attempts} = q.{files_queue_attempts} + 1, {files_queue_last_error} = f.reason
  FROM unnest(%(ids)s, %(reasons)s::text[]) AS f (id, reason)
 WHERE q.{files_queue_claim_id} = %(claim_id)s
   AND q.{files_queue_status} NOT IN ('pending', 'completed', 'failed')
   AND q.{files_queue_id} = f.id;

-- name: release
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} NOT IN ('pending', 'completed', 'failed');

-- name: extend_leases
-- Only where less than half of the lease is left: a heartbeat every few seconds must not rewrite the rows in hand.
-- A locked row is being completed at this moment: waiting for it could end in a deadlock, and it needs no lease.
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
-- `now()` instead of `clock_timestamp()`, which no index can serve; and no OR, for which the planner would read
-- the whole index of leases.
WITH expired AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} < now()
       AND q.{files_queue_lease_until} >= coalesce(%(since)s::timestamptz, '-infinity')
       FOR UPDATE OF q SKIP LOCKED
), unleased AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_lease_until} IS NULL
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
  FROM (SELECT id FROM expired UNION ALL SELECT id FROM unleased) abandoned
 WHERE q.{files_queue_id} = abandoned.id;

-- name: claimants
-- Leases that have run out are `reap_expired`'s.
SELECT DISTINCT {files_queue_claimed_by} FROM {files_queue}
 WHERE {files_queue_status} = 'processing' AND {files_queue_claimed_by} IS NOT NULL
   AND {files_queue_lease_until} >= now();

-- name: release_claimants
WITH abandoned AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'processing' AND q.{files_queue_claimed_by} = ANY(%(workers)s)
       AND q.{files_queue_lease_until} >= now()
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
  FROM abandoned WHERE q.{files_queue_id} = abandoned.id;

-- name: retry_failed
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_last_error} = NULL
 WHERE {files_queue_status} = 'failed';

-- name: counts
SELECT {files_queue_status}, count(*) FROM {files_queue} GROUP BY 1;

-- name: open_items
-- Two counts instead of one over both states: each has its own partial index.
SELECT (SELECT count(*) FROM {files_queue}
         WHERE {files_queue_status} = 'pending' AND {files_queue_phase} <= %(phase)s
           AND ({files_queue_id} <= %(last_id)s OR %(last_id)s IS NULL)),
       (SELECT count(*) FROM {files_queue}
         WHERE {files_queue_status} = 'processing' AND {files_queue_phase} <= %(phase)s
           AND ({files_queue_id} <= %(last_id)s OR %(last_id)s IS NULL));

-- name: nth_open
SELECT {files_queue_id} FROM {files_queue}
 WHERE {files_queue_status} IN ('pending', 'processing')
 ORDER BY {files_queue_id} OFFSET %(offset)s LIMIT 1;

-- name: failures
SELECT {files_queue_location}, {files_queue_last_error} FROM {files_queue}
 WHERE {files_queue_status} = 'failed' ORDER BY {files_queue_id} LIMIT %(limit)s;

-- name: is_filled
SELECT EXISTS (SELECT 1 FROM {files_queue});

-- name: seed
COPY {files_queue} ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
FROM STDIN (FORMAT BINARY);

-- name: create_incoming
CREATE TEMPORARY TABLE incoming (position bigint, location text) ON COMMIT DROP;

-- name: copy_incoming
COPY incoming (position, location) FROM STDIN (FORMAT BINARY);

-- name: append_incoming
INSERT INTO {files_queue}
       ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
SELECT i.location, 'pending', 0, %(phase)s
  FROM (SELECT location, min(position) AS position FROM incoming GROUP BY location) i
 WHERE NOT EXISTS (SELECT 1 FROM {files_queue} q WHERE q.{files_queue_location} = i.location)
 ORDER BY i.position;

-- name: seed_rows
-- `width_bucket` counts the gates at or below the number of rows before this one.
INSERT INTO {files_queue}
       ({files_queue_location}, {files_queue_status}, {files_queue_attempts}, {files_queue_phase})
SELECT source.id::text, 'pending', 0,
       1 + width_bucket(row_number() OVER (ORDER BY source.id) - 1, {gates}::bigint[])
  FROM {relation}
 WHERE source.id IS NOT NULL
 ORDER BY source.id;

-- name: insert_incoming
INSERT INTO incoming (position, location)
SELECT row_number() OVER (ORDER BY source.id), source.id::text FROM {relation} WHERE source.id IS NOT NULL;

-- name: analyze
ANALYZE {files_queue};

-- name: analyze_incoming
ANALYZE incoming;

-- name: server_time
SELECT clock_timestamp();

-- name: gate
SELECT coalesce(
    (SELECT c.phase FROM ragops.campaign c
      WHERE c.status NOT IN ('done', 'abandoned', 'undone') ORDER BY c.id DESC LIMIT 1),
    32767);

-- name: save_source
INSERT INTO ragops.source (queue, source) VALUES (%(queue)s, %(source)s)
ON CONFLICT (queue) DO UPDATE SET source = excluded.source, seeded_at = now();

-- name: load_source
SELECT source FROM ragops.source WHERE queue = %(queue)s;
