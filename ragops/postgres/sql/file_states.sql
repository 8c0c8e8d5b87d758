-- How the files of a queue were when they were queued. A seeding is the number of the states that were kept in one go; a
-- filling has one, and keeps it when another filling takes its place with the same items.

-- name: generation
-- The present filling of the queue.
coalesce((SELECT s.generation FROM ragops.source s WHERE s.queue = {queue_key}), 0);

-- name: seeding
-- The seeding of the present filling, and what it left out; no row for a queue of rows, or of an older version.
SELECT g.seeding, g.left_out FROM ragops.seeding g WHERE g.queue = {queue_key} AND g.generation = {generation};

-- name: begin
-- Notes the seeding of the present filling.
INSERT INTO ragops.seeding AS g (queue, generation, seeding, left_out)
VALUES ({queue_key}, {generation}, %(seeding)s, %(left_out)s)
    ON CONFLICT (queue, generation) DO UPDATE SET left_out = excluded.left_out;

-- name: copy
-- Takes the states of files that were just queued.
COPY ragops.file_state (seeding, key, bytes, modified_ns) FROM STDIN (FORMAT BINARY);

-- name: create_incoming
-- Takes the states of files that may be in the queue already; gone with the transaction.
CREATE TEMPORARY TABLE incoming_states (seeding bigint, key bigint, bytes bigint, modified_ns bigint) ON COMMIT DROP;

-- name: copy_incoming
-- Receives these states.
COPY incoming_states (seeding, key, bytes, modified_ns) FROM STDIN (FORMAT BINARY);

-- name: add_incoming
-- Keeps the states of those that are new. A file that was queued before is as it was then.
INSERT INTO ragops.file_state (seeding, key, bytes, modified_ns)
SELECT i.seeding, i.key, i.bytes, i.modified_ns FROM incoming_states i
 WHERE NOT EXISTS (SELECT 1 FROM ragops.file_state f WHERE f.seeding = i.seeding AND f.key = i.key);

-- name: states
-- The states of some files.
SELECT f.key, f.bytes, f.modified_ns FROM ragops.file_state f
 WHERE f.seeding = %(seeding)s AND f.key = ANY(%(keys)s::bigint[]);

-- name: forget
-- Removes the states of files whose new ones follow.
DELETE FROM ragops.file_state WHERE seeding = %(seeding)s AND key = ANY(%(keys)s::bigint[]);

-- name: note
-- Keeps the states that files had when they were embedded. Those that had changed get their location.
INSERT INTO ragops.file_state (seeding, key, bytes, modified_ns, location)
SELECT %(seeding)s, s.* FROM unnest(%(keys)s::bigint[], %(bytes)s::bigint[], %(modified)s::bigint[],
                                    %(locations)s::text[]) s;

-- name: forget_failed
-- Removes the states of the failed items, before they are put back into the queue: they are read as they are then.
DELETE FROM ragops.file_state f
 USING {files_queue} q, ragops.seeding g
 WHERE g.queue = {queue_key} AND g.generation = {generation} AND f.seeding = g.seeding
   AND q.{files_queue_status} = 'failed'
   AND f.key = ('x' || encode(substr(sha256(convert_to(q.{files_queue_location}::text, 'UTF8')), 1, 8), 'hex')
               )::bit(64)::bigint;

-- name: changed
-- How many files were embedded in another state than they were queued in.
SELECT count(*) FROM ragops.file_state f JOIN ragops.seeding g ON g.seeding = f.seeding
 WHERE g.queue = {queue_key} AND g.generation = {generation} AND f.location IS NOT NULL;

-- name: changed_locations
-- The first of these files.
SELECT f.location FROM ragops.file_state f JOIN ragops.seeding g ON g.seeding = f.seeding
 WHERE g.queue = {queue_key} AND g.generation = {generation} AND f.location IS NOT NULL
 ORDER BY f.location COLLATE "C" LIMIT %(limit)s;

-- name: move
-- Lets the states of a filling be those of the one that took its place with the same items.
INSERT INTO ragops.seeding AS g (queue, generation, seeding, left_out)
SELECT {queue_key}, {generation}, o.seeding, o.left_out FROM ragops.seeding o
 WHERE o.queue = %(queue)s AND o.generation = %(generation)s AND {generation} <> %(generation)s
    ON CONFLICT (queue, generation) DO NOTHING;

-- name: prune_seedings
-- Forgets the seedings of fillings that are neither present nor archived, and returns them.
DELETE FROM ragops.seeding g
 WHERE NOT EXISTS (SELECT 1 FROM ragops.source s WHERE s.queue = g.queue AND s.generation = g.generation)
   AND NOT EXISTS (SELECT 1 FROM ragops.archive a
                    WHERE a.queue_source->>'queue' = g.queue
                      AND (a.queue_source->>'generation')::bigint = g.generation)
RETURNING g.seeding;

-- name: prune_states
-- Removes the states of seedings that were forgotten and that no other filling has.
DELETE FROM ragops.file_state f
 WHERE f.seeding = ANY(%(gone)s::bigint[])
   AND NOT EXISTS (SELECT 1 FROM ragops.seeding g WHERE g.seeding = f.seeding);
