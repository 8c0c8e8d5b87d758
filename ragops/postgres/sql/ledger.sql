-- name: insert_campaign
-- The campaign's own `lease_until`, here and in `take`, is for programs of an older version: they know no other.
INSERT INTO ragops.campaign (name, playbook, plan, queue, holder, lease_until)
VALUES (%(name)s, %(playbook)s, %(plan)s, {queue_key}, %(holder)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
RETURNING id, epoch;

-- name: lock_campaigns
-- Two controllers that start at once come here one after the other; readers go on.
LOCK TABLE ragops.campaign IN SHARE ROW EXCLUSIVE MODE;

-- name: insert_step
INSERT INTO ragops.step (campaign_id, number, verb) VALUES (%(campaign)s, %(number)s, %(verb)s);

-- name: latest
-- The newest campaign of a queue. The queue by way of JSON, because a ledger of an older version lacks the column; its
-- campaigns hold for every queue. A lease counts for the holder and the epoch that it was written for. A campaign that
-- a program of an older version started or took over has none, only its own column.
SELECT c.id, c.name, c.playbook, c.plan, c.status, c.phase, c.epoch, c.holder,
       coalesce(l.lease_until, c.lease_until), coalesce(l.lease_until, c.lease_until) > clock_timestamp(), c.error,
       to_jsonb(c)->>'queue'
  FROM ragops.campaign c
  LEFT JOIN {lease} l ON l.campaign_id = c.id AND l.epoch = c.epoch AND l.holder = c.holder
 WHERE coalesce(to_jsonb(c)->>'queue', {queue_key}) = {queue_key}
 ORDER BY c.id DESC LIMIT 1;

-- name: newest
-- The newest campaign of all queues.
SELECT c.id, c.name, c.playbook, c.plan, c.status, c.phase, c.epoch, c.holder,
       coalesce(l.lease_until, c.lease_until), coalesce(l.lease_until, c.lease_until) > clock_timestamp(), c.error,
       to_jsonb(c)->>'queue'
  FROM ragops.campaign c
  LEFT JOIN {lease} l ON l.campaign_id = c.id AND l.epoch = c.epoch AND l.holder = c.holder
 ORDER BY c.id DESC LIMIT 1;

-- name: all_campaigns
SELECT c.id, c.name, c.playbook, c.plan, c.status, c.phase, c.epoch, c.holder,
       coalesce(l.lease_until, c.lease_until), coalesce(l.lease_until, c.lease_until) > clock_timestamp(), c.error,
       to_jsonb(c)->>'queue'
  FROM ragops.campaign c
  LEFT JOIN {lease} l ON l.campaign_id = c.id AND l.epoch = c.epoch AND l.holder = c.holder
 ORDER BY c.id;

-- name: no_lease
-- In place of the table `lease` in a ledger of an older version.
(SELECT 0::bigint AS campaign_id, 0::bigint AS epoch, ''::text AS holder, now() AS lease_until WHERE false)

-- name: take
UPDATE ragops.campaign
   SET epoch = epoch + 1, holder = %(holder)s, status = 'running', error = NULL,
       lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE id = %(campaign)s AND epoch = %(epoch)s
RETURNING epoch;

-- name: write_lease
INSERT INTO ragops.lease (campaign_id, epoch, holder, lease_until)
VALUES (%(campaign)s, %(epoch)s, %(holder)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
ON CONFLICT (campaign_id) DO UPDATE
   SET epoch = excluded.epoch, holder = excluded.holder, lease_until = excluded.lease_until;

-- name: renew
-- Not more often than needed: a watched statement asks for it twice a second.
UPDATE ragops.lease SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s
   AND lease_until < clock_timestamp() + make_interval(secs => %(lease_s)s * 0.9);

-- name: end_lease
-- The row stays: without it the campaign's own column would count.
UPDATE ragops.lease SET lease_until = clock_timestamp() WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s;

-- name: fence
SELECT epoch FROM ragops.campaign WHERE id = %(campaign)s FOR UPDATE;

-- name: backend
-- The server's process for this session, also behind a pooler, as long as the transaction lasts.
SELECT pg_backend_pid();

-- name: blockers
-- What a session waits for, as far as this role may see it: another role's query, state and times are NULL.
SELECT b.pid, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.query_start)::float8,
       CASE WHEN a.state IS NOT NULL THEN a.query END
  FROM unnest(pg_blocking_pids(%(pid)s)) AS b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
 GROUP BY b.pid, a.application_name, a.state, a.query_start, a.query ORDER BY b.pid;

-- name: set_phase
UPDATE ragops.campaign SET phase = %(phase)s WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: finish
WITH ended AS (
    UPDATE ragops.campaign
       SET status = %(status)s, error = %(error)s, holder = NULL, lease_until = NULL,
           finished_at = CASE WHEN %(status)s IN ('done', 'abandoned', 'undone') THEN clock_timestamp() END
     WHERE id = %(campaign)s AND epoch = %(epoch)s
    RETURNING id
), freed AS (
    DELETE FROM ragops.lease l USING ended e WHERE l.campaign_id = e.id
)
SELECT id FROM ended;

-- name: abandon
WITH ended AS (
    UPDATE ragops.campaign SET status = 'abandoned', epoch = epoch + 1, holder = NULL, lease_until = NULL,
           finished_at = clock_timestamp()
     WHERE id = %(campaign)s AND epoch = %(epoch)s
    RETURNING id
), freed AS (
    DELETE FROM ragops.lease l USING ended e WHERE l.campaign_id = e.id
)
SELECT id FROM ended;

-- name: save_plan
UPDATE ragops.campaign SET plan = %(plan)s WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: steps
SELECT number, verb, status, effect, error,
       extract(epoch FROM finished_at - started_at)::float8
  FROM ragops.step WHERE campaign_id = %(campaign)s ORDER BY number;

-- name: step_started
-- Records, too, are fenced: an earlier holder that wakes up must not take a step for done.
UPDATE ragops.step s
   SET status = 'running', started_at = coalesce(s.started_at, clock_timestamp()), error = NULL
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: step_noted
UPDATE ragops.step s SET effect = %(effect)s
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: step_done
UPDATE ragops.step s
   SET status = 'done', finished_at = clock_timestamp(), effect = %(effect)s, error = NULL
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: step_failed
UPDATE ragops.step s
   SET status = 'failed', finished_at = clock_timestamp(), error = %(error)s,
       effect = coalesce(%(effect)s, s.effect)
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: journal_index
-- Writes a dropped index's definition into the journal.
INSERT INTO ragops.index_definition
       (campaign_id, undo_id, schema_name, index_name, table_name, definition, properties, bytes)
VALUES (%(campaign)s, %(undo)s, %(schema)s, %(name)s, %(table)s, %(definition)s, %(properties)s, %(bytes)s);

-- name: journaled_indexes
-- Dropped and not yet restored indexes: the newest definition of each name. By way of JSON, as a ledger of an older
-- version lacks two columns.
SELECT DISTINCT ON (schema_name, index_name)
       id, campaign_id, schema_name, index_name, table_name, definition, to_jsonb(d)->'properties',
       (to_jsonb(d)->>'undo_id')::bigint
  FROM ragops.index_definition d WHERE restored_at IS NULL
 ORDER BY schema_name, index_name, id DESC;

-- name: first_journaled
-- What some campaigns dropped, restored since or not: the oldest definition of each name.
SELECT DISTINCT ON (schema_name, index_name)
       id, campaign_id, schema_name, index_name, table_name, definition, properties, undo_id
  FROM ragops.index_definition WHERE campaign_id = ANY(%(campaigns)s) AND undo_id IS NULL
 ORDER BY schema_name, index_name, id;

-- name: index_restored
UPDATE ragops.index_definition SET restored_at = clock_timestamp()
 WHERE schema_name = %(schema)s AND index_name = %(name)s AND restored_at IS NULL;

-- name: next_archives
SELECT nextval(pg_get_serial_sequence('ragops.archive', 'id')) FROM generate_series(1, %(count)s);

-- name: expected_archive
-- The number that `next_archives` would give, without taking it; NULL for a role that may not read the sequence.
SELECT CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
            THEN coalesce(pg_sequence_last_value(s.name::regclass), 0) + 1 END
  FROM (SELECT pg_get_serial_sequence('ragops.archive', 'id') AS name) s;

-- name: forget_archives
-- Forgets the archives of some campaigns, or all, and returns their tables; one that is recorded meanwhile keeps its
-- record and its table.
DELETE FROM ragops.archive
 WHERE %(campaigns)s::bigint[] IS NULL OR campaign_id = ANY(%(campaigns)s::bigint[])
RETURNING archive_table;

-- name: record_archive
INSERT INTO ragops.archive (id, campaign_id, logical, schema_name, table_name, archive_table, rows,
                            generation, table_oid, database_oid, queue_source, undo_id)
OVERRIDING SYSTEM VALUE
VALUES (%(id)s, %(campaign)s, %(logical)s, %(schema)s, %(table)s, %(archive_table)s, %(rows)s,
        %(generation)s, %(oid)s, (SELECT oid FROM pg_database WHERE datname = current_database()),
        (SELECT jsonb_build_object('queue', k.key, 'source', s.source, 'fingerprint', s.fingerprint,
                                   'chunking', s.chunking, 'generation', coalesce(s.generation, 0))
           FROM (SELECT quote_ident(%(schema)s::text) || '.' || quote_ident(%(table)s::text) AS key) k
           LEFT JOIN ragops.source s ON s.queue = k.key
          WHERE %(is_queue)s),
        %(undo)s);

-- name: archives
-- Archives, the oldest first. The oid of a table counts only in the database that it was noted in.
SELECT a.id, a.campaign_id, a.logical, a.schema_name, a.table_name, a.archive_table, a.rows, a.generation,
       CASE WHEN a.database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())
            THEN a.table_oid END,
       a.queue_source, a.undo_id, a.restored_at IS NOT NULL
  FROM ragops.archive a ORDER BY a.id;

-- name: all_archives
-- Archives with their size, for people. By way of JSON, because a ledger of an older version lacks the last columns.
SELECT a.id, a.campaign_id, a.table_name, a.rows,
       coalesce(pg_total_relation_size(to_regclass('ragops.' || quote_ident(a.archive_table))), 0),
       a.created_at, a.restored_at, a.schema_name,
       coalesce((to_jsonb(a)->>'generation')::bigint,
                (SELECT min(b.id) FROM ragops.archive b WHERE b.created_at = a.created_at)),
       (to_jsonb(a)->>'undo_id')::bigint
  FROM ragops.archive a ORDER BY a.id;

-- name: archives_restored
UPDATE ragops.archive SET restored_at = clock_timestamp() WHERE id = ANY(%(ids)s);

-- name: changing_campaigns
-- The campaigns that dropped an index or emptied a table that held rows.
SELECT campaign_id FROM ragops.index_definition WHERE campaign_id IS NOT NULL
 UNION
SELECT campaign_id FROM ragops.step
 WHERE verb = 'empty_tables' AND status = 'done' AND (effect->>'rows')::bigint > 0;

-- name: insert_undo
INSERT INTO ragops.undo (campaign_id, generation, rows) VALUES (%(campaign)s, %(generation)s, %(rows)s)
RETURNING id;

-- name: undo_restored
-- What an undo brought back, and the generation of the rows that it removed.
UPDATE ragops.undo SET rows = %(rows)s, removed = %(removed)s WHERE id = %(undo)s;

-- name: newest_undo
-- The undo that began last, of one of these campaigns or of none.
SELECT id, campaign_id, generation, rows, removed, finished_at IS NOT NULL FROM ragops.undo
 WHERE campaign_id IS NULL OR campaign_id = ANY(%(campaigns)s)
 ORDER BY id DESC LIMIT 1;

-- name: finish_undo
UPDATE ragops.undo SET finished_at = clock_timestamp() WHERE id = %(undo)s AND finished_at IS NULL;

-- name: undo_campaigns
-- Ends the campaigns that an undo took back; whoever still held one of them loses its fence.
WITH ended AS (
    UPDATE ragops.campaign
       SET status = 'undone', error = NULL, epoch = epoch + 1, holder = NULL, lease_until = NULL,
           finished_at = coalesce(finished_at, clock_timestamp())
     WHERE id = ANY(%(campaigns)s)
    RETURNING id
)
DELETE FROM ragops.lease l USING ended e WHERE l.campaign_id = e.id;

-- name: save_fingerprint
INSERT INTO ragops.fingerprint AS f (id, document, canary) VALUES (%(id)s, %(document)s, %(canary)s)
    ON CONFLICT (id) DO UPDATE SET canary = excluded.canary WHERE f.canary IS NULL AND excluded.canary IS NOT NULL;

-- name: load_fingerprint
SELECT document, canary FROM ragops.fingerprint WHERE id = %(id)s;

-- name: index_due
-- Marks a journaled index as missing again, for an undo to build it.
UPDATE ragops.index_definition SET restored_at = NULL, undo_id = %(undo)s WHERE id = %(id)s;

-- name: due_indexes
-- The indexes that an undo still has to build.
SELECT id, campaign_id, schema_name, index_name, table_name, definition, properties, undo_id
  FROM ragops.index_definition WHERE undo_id = %(undo)s AND restored_at IS NULL ORDER BY id;

-- name: save_playbook
-- What the campaign holds from now on.
UPDATE ragops.campaign SET playbook = %(playbook)s WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: record_change
-- Records what an operator changed of a campaign, and who that was.
INSERT INTO ragops.change (campaign_id, setting, before, after, changed_by)
VALUES (%(campaign)s, %(setting)s, %(before)s, %(after)s, current_user || ' from ' || %(process)s);

-- name: changes
SELECT setting, before, after, changed_by, changed_at FROM ragops.change
 WHERE campaign_id = %(campaign)s ORDER BY id;
