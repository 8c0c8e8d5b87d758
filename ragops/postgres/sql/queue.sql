-- name: claim
-- An unfinished campaign's phase is the gate; without one every phase is open.
WITH gate AS (
    SELECT coalesce(
        (SELECT c.phase FROM ragops.campaign c
          WHERE c.status NOT IN ('done', 'abandoned', 'undone') ORDER BY c.id DESC LIMIT 1),
        32767) AS phase
), picked AS (
    SELECT q.{files_queue_id} AS id FROM {files_queue} q
     WHERE q.{files_queue_status} = 'pending'
       AND q.{files_queue_phase} <= (SELECT phase FROM gate)
       AND q.{files_queue_id} <= coalesce(%(last_id)s, q.{files_queue_id})
     ORDER BY q.{files_queue_phase}, q.{files_queue_id}
     LIMIT %(size)s
       FOR UPDATE OF q SKIP LOCKED
)
UPDATE {files_queue} q
   SET {files_queue_status} = 'processing',
       {files_queue_claim_id} = %(claim_id)s,
       {files_queue_claimed_by} = %(worker)s,
       {files_queue_lease_until} = clock_timestamp() + make_interval(secs => %(lease_s)s)
  FROM picked
 WHERE q.{files_queue_id} = picked.id
RETURNING q.{files_queue_id}, q.{files_queue_location};

-- name: complete
UPDATE {files_queue}
   SET {files_queue_status} = 'completed', {files_queue_claim_id} = NULL,
       {files_queue_lease_until} = NULL, {files_queue_last_error} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} = 'processing'
   AND {files_queue_id} = ANY(%(ids)s);

-- name: fail
UPDATE {files_queue}
   SET {files_queue_status} = 'failed', {files_queue_claim_id} = NULL, {files_queue_lease_until} = NULL,
       {files_queue_attempts} = {files_queue_attempts} + 1, {files_queue_last_error} = %(reason)s
 WHERE {files_queue_claim_id} = %(claim_id)s
   AND {files_queue_status} = 'processing'
   AND {files_queue_id} = %(id)s;

-- name: release
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
 WHERE {files_queue_claim_id} = %(claim_id)s AND {files_queue_status} = 'processing';

-- name: extend_leases
UPDATE {files_queue}
   SET {files_queue_lease_until} = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE {files_queue_claim_id} = ANY(%(claim_ids)s) AND {files_queue_status} = 'processing';

-- name: reap_expired
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
 WHERE {files_queue_status} = 'processing'
   AND ({files_queue_lease_until} IS NULL OR {files_queue_lease_until} < clock_timestamp());

-- name: claimants
SELECT DISTINCT {files_queue_claimed_by} FROM {files_queue}
 WHERE {files_queue_status} = 'processing' AND {files_queue_claimed_by} IS NOT NULL;

-- name: release_claimants
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_claim_id} = NULL,
       {files_queue_claimed_by} = NULL, {files_queue_lease_until} = NULL
 WHERE {files_queue_status} = 'processing' AND {files_queue_claimed_by} = ANY(%(workers)s);

-- name: retry_failed
UPDATE {files_queue}
   SET {files_queue_status} = 'pending', {files_queue_last_error} = NULL
 WHERE {files_queue_status} = 'failed';

-- name: counts
SELECT {files_queue_status}, count(*) FROM {files_queue} GROUP BY 1;

-- name: open_items
SELECT count(*) FILTER (WHERE {files_queue_status} = 'pending'),
       count(*) FILTER (WHERE {files_queue_status} = 'processing')
  FROM {files_queue}
 WHERE {files_queue_status} IN ('pending', 'processing')
   AND {files_queue_phase} <= %(phase)s
   AND {files_queue_id} <= coalesce(%(last_id)s, {files_queue_id});

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
