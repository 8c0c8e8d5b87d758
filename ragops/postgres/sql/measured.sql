-- What was measured of stored documents: the text that is missing in them, and the tokens that the model does not know.
-- Every row belongs to a filling of a queue. In the transaction that completes an item the present filling is the one
-- that the item was claimed from: whatever fills or empties the queue locks it against writers.

-- name: generation
-- The present filling of the queue.
coalesce((SELECT s.generation FROM ragops.source s WHERE s.queue = {queue_key}), 0);

-- name: forget
-- Removes what an earlier run measured of these items, which somebody has put back into the queue. The first condition
-- is evaluated once, so that a filling without such rows costs no look at the items.
DELETE FROM ragops.measured m
 USING {files_queue} q
 WHERE (SELECT EXISTS (SELECT 1 FROM ragops.measured n WHERE n.queue = {queue_key} AND n.generation = {generation}))
   AND m.queue = {queue_key} AND m.generation = {generation}
   AND q.{files_queue_id} = ANY(%(ids)s) AND m.item = q.{files_queue_id}::text;

-- name: record
-- Records what was measured of items, in the transaction that completes them.
INSERT INTO ragops.measured (queue, generation, item, location, found, expected, unit, missing, unknown, tokens)
SELECT {queue_key}, {generation}, q.{files_queue_id}::text, q.{files_queue_location}::text,
       m.found, m.expected, m.unit, m.missing::jsonb, m.unknown, m.tokens
  FROM unnest(%(ids)s, %(found)s::bigint[], %(expected)s::bigint[], %(unit)s::text[], %(missing)s::text[],
              %(unknown)s::bigint[], %(tokens)s::bigint[])
       AS m (id, found, expected, unit, missing, unknown, tokens)
  JOIN {files_queue} q ON q.{files_queue_id} = m.id
    ON CONFLICT (queue, generation, item) DO NOTHING;

-- name: count_tokens
-- Adds up the tokens of completed documents.
INSERT INTO ragops.tokens AS t (queue, generation, writer, documents, tokens, unknown)
VALUES ({queue_key}, {generation}, %(writer)s, %(documents)s, %(tokens)s, %(unknown)s)
    ON CONFLICT (queue, generation, writer) DO UPDATE
   SET documents = t.documents + excluded.documents, tokens = t.tokens + excluded.tokens,
       unknown = t.unknown + excluded.unknown;

-- name: current
-- The measured documents of the present filling whose items are completed. A relation, for the statements below.
-- With the location: an item that somebody deleted and inserted by hand may have the number of another one.
(SELECT m.item, m.location, m.found, m.expected, m.unit, m.missing, m.unknown, m.tokens
   FROM ragops.measured m
   JOIN {files_queue} q ON q.{files_queue_id}::text = m.item AND q.{files_queue_location}::text = m.location
  WHERE m.queue = {queue_key} AND m.generation = {generation} AND q.{files_queue_status} = 'completed');

-- name: summary
-- How many documents are partial, and of how many at least half of the tokens are unknown.
SELECT count(*) FILTER (WHERE c.expected IS NOT NULL), count(*) FILTER (WHERE c.unknown > 0 AND c.unknown * 2 >= c.tokens)
  FROM {current} c;

-- name: token_totals
-- Documents, tokens and unknown tokens of the present filling.
SELECT coalesce(sum(t.documents), 0)::bigint, coalesce(sum(t.tokens), 0)::bigint, coalesce(sum(t.unknown), 0)::bigint
  FROM ragops.tokens t WHERE t.queue = {queue_key} AND t.generation = {generation};

-- name: partial
-- Partial documents, those first that lack the largest share.
SELECT c.location, c.found, c.expected, c.unit, c.missing FROM {current} c
 WHERE c.expected IS NOT NULL
 ORDER BY c.found::float8 / greatest(c.expected, 1), c.location COLLATE "C" LIMIT %(limit)s;

-- name: unknown
-- Documents with unknown tokens, those first of which the model knows the least.
SELECT c.location, c.unknown, c.tokens FROM {current} c
 WHERE c.unknown > 0 AND c.unknown * 2 >= c.tokens
 ORDER BY c.unknown::float8 / greatest(c.tokens, 1) DESC, c.location COLLATE "C" LIMIT %(limit)s;

-- name: move
-- Lets what was measured of a filling speak of the one that took its place with the same items.
WITH moved AS (
    INSERT INTO ragops.measured AS m
           (queue, generation, item, location, found, expected, unit, missing, unknown, tokens, measured_at)
    SELECT {queue_key}, {generation}, o.item, o.location, o.found, o.expected, o.unit, o.missing, o.unknown, o.tokens,
           o.measured_at
      FROM ragops.measured o
     WHERE o.queue = %(queue)s AND o.generation = %(generation)s AND {generation} <> %(generation)s
        ON CONFLICT (queue, generation, item) DO NOTHING
)
INSERT INTO ragops.tokens (queue, generation, writer, documents, tokens, unknown)
SELECT {queue_key}, {generation}, o.writer, o.documents, o.tokens, o.unknown
  FROM ragops.tokens o
 WHERE o.queue = %(queue)s AND o.generation = %(generation)s AND {generation} <> %(generation)s
    ON CONFLICT (queue, generation, writer) DO NOTHING;

-- name: prune
-- Removes what was measured of fillings that are neither present nor archived.
WITH kept AS (
    SELECT s.queue, s.generation FROM ragops.source s
    UNION
    SELECT a.queue_source->>'queue', (a.queue_source->>'generation')::bigint FROM ragops.archive a
     WHERE a.queue_source ? 'generation'
), measured AS (
    DELETE FROM ragops.measured m
     WHERE m.generation > 0 AND NOT EXISTS (
           SELECT 1 FROM kept k WHERE k.queue = m.queue AND k.generation = m.generation)
)
DELETE FROM ragops.tokens t
 WHERE t.generation > 0 AND NOT EXISTS (
       SELECT 1 FROM kept k WHERE k.queue = t.queue AND k.generation = t.generation);

-- name: missing_privileges
-- What the role may not do with these tables, where they exist.
SELECT string_agg(DISTINCT p.privilege, ', '), quote_ident(current_user)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p (privilege)
 WHERE n.nspname = 'ragops' AND c.relname IN ('measured', 'tokens', 'seeding', 'file_state') AND NOT has_table_privilege(c.oid, p.privilege);
