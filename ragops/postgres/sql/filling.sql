-- What the rows of a queue came from. Everything that fills, empties or restores a queue raises its `generation`: a
-- claim names the generation that its claimant has read together with the source.
-- `{queue_key}` is the qualified name of the queue table, by which two playbooks that write it differently mean one.

-- name: key
-- The key of a queue whose schema the search path decides. Of a table that does not exist, as it would be created.
coalesce((SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE c.oid = to_regclass({quoted})),
         coalesce(quote_ident(current_schema()), 'public') || '.' || quote_ident({name}));

-- name: qualified_key
-- The key of a queue in a schema that is given.
(quote_ident({schema}) || '.' || quote_ident({name}));

-- name: read
-- The present filling of a queue, one row: generation 0 and no source if ragops never filled it. By way of JSON,
-- because a ledger of an older version lacks columns; there a queue is found under the name that was typed.
SELECT {queue_key}, coalesce((s.row->>'generation')::bigint, 0), s.source, s.seeded_at,
       s.row->>'fingerprint', s.row->'chunking'
  FROM (SELECT 1) AS one
  LEFT JOIN LATERAL (
       SELECT source, seeded_at, to_jsonb(o) AS row FROM ragops.source o
        WHERE o.queue IN ({queue_key}, %(typed)s) ORDER BY o.queue = {queue_key} DESC LIMIT 1) s ON true;

-- name: fill
-- Remembers what a queue was filled from; the next fleet decides which vectors belong to it.
WITH older AS (DELETE FROM ragops.source WHERE queue = %(typed)s AND queue <> {queue_key})
INSERT INTO ragops.source AS s (queue, source, generation) VALUES ({queue_key}, %(source)s, 1)
    ON CONFLICT (queue) DO UPDATE
   SET source = excluded.source, generation = s.generation + 1, fingerprint = NULL, chunking = NULL,
       seeded_at = clock_timestamp();

-- name: extend
-- Remembers what was appended to a queue. Items of the same source belong to the same filling; either way the vectors
-- that are there stay.
WITH older AS (DELETE FROM ragops.source WHERE queue = %(typed)s AND queue <> {queue_key})
INSERT INTO ragops.source AS s (queue, source, generation) VALUES ({queue_key}, %(source)s, 1)
    ON CONFLICT (queue) DO UPDATE
   SET source = excluded.source, generation = s.generation + CASE WHEN %(is_same)s THEN 0 ELSE 1 END,
       seeded_at = clock_timestamp();

-- name: raise
-- Ends a filling whose items are gone.
INSERT INTO ragops.source AS s (queue, generation) VALUES ({queue_key}, 1)
    ON CONFLICT (queue) DO UPDATE
   SET generation = s.generation + 1, fingerprint = NULL, chunking = NULL, seeded_at = clock_timestamp();

-- name: restore
-- What the queue was filled from when its rows were archived, as a filling of its own.
INSERT INTO ragops.source AS s (queue, source, generation, fingerprint, chunking)
VALUES ({queue_key}, %(source)s, 1, %(fingerprint)s, %(chunking)s)
    ON CONFLICT (queue) DO UPDATE
   SET source = excluded.source, generation = s.generation + 1, fingerprint = excluded.fingerprint,
       chunking = excluded.chunking, seeded_at = clock_timestamp();

-- name: adopt
-- Gives a row of an older version the key of this one.
UPDATE ragops.source SET queue = {queue_key}
 WHERE queue = %(typed)s AND queue <> {queue_key}
   AND NOT EXISTS (SELECT 1 FROM ragops.source WHERE queue = {queue_key});

-- name: claim_space
-- Notes which vectors belong to a filling, unless a fleet has done so before.
INSERT INTO ragops.source AS s (queue, generation, fingerprint, chunking)
VALUES ({queue_key}, %(generation)s, %(fingerprint)s, %(chunking)s)
    ON CONFLICT (queue) DO UPDATE SET fingerprint = excluded.fingerprint, chunking = excluded.chunking
 WHERE s.fingerprint IS NULL AND s.generation = excluded.generation;

-- name: replace_space
-- The same for a filling of which nothing was embedded yet. A new generation: the fleet that noted its vectors before
-- may still run. In a campaign only its own fleet decides: what another one embeds would keep it from going on.
UPDATE ragops.source
   SET generation = generation + 1, fingerprint = %(fingerprint)s, chunking = %(chunking)s
 WHERE queue = {queue_key} AND generation = %(generation)s
   AND (%(is_campaign)s OR NOT EXISTS (
        SELECT 1 FROM ragops.campaign c
         WHERE c.status NOT IN ('done', 'abandoned', 'undone') AND coalesce(c.queue, {queue_key}) = {queue_key}));
