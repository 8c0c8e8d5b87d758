-- name: insert_campaign
INSERT INTO ragops.campaign (name, playbook, plan, holder, lease_until)
VALUES (%(name)s, %(playbook)s, %(plan)s, %(holder)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
RETURNING id, epoch;

-- name: lock_campaigns
-- Two controllers that start at once come here one after the other; readers go on.
LOCK TABLE ragops.campaign IN SHARE ROW EXCLUSIVE MODE;

-- name: insert_step
INSERT INTO ragops.step (campaign_id, number, verb) VALUES (%(campaign)s, %(number)s, %(verb)s);

-- name: latest
SELECT id, name, playbook, plan, status, phase, epoch, holder, lease_until, lease_until > clock_timestamp(), error
  FROM ragops.campaign ORDER BY id DESC LIMIT 1;

-- name: all_campaigns
SELECT id, name, playbook, plan, status, phase, epoch, holder, lease_until, lease_until > clock_timestamp(), error
  FROM ragops.campaign ORDER BY id;

-- name: by_id
SELECT id, name, playbook, plan, status, phase, epoch, holder, lease_until, lease_until > clock_timestamp(), error
  FROM ragops.campaign WHERE id = %(campaign)s;

-- name: take
UPDATE ragops.campaign
   SET epoch = epoch + 1, holder = %(holder)s, status = 'running', error = NULL,
       lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE id = %(campaign)s AND epoch = %(epoch)s
RETURNING epoch;

-- name: renew
-- SKIP LOCKED: a destructive transaction of this very controller may hold the row for minutes.
UPDATE ragops.campaign
   SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE id = (SELECT id FROM ragops.campaign
              WHERE id = %(campaign)s AND epoch = %(epoch)s FOR UPDATE SKIP LOCKED);

-- name: fence
SELECT epoch FROM ragops.campaign WHERE id = %(campaign)s FOR UPDATE;

-- name: touch
UPDATE ragops.campaign SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: set_phase
UPDATE ragops.campaign SET phase = %(phase)s WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: finish
UPDATE ragops.campaign
   SET status = %(status)s, error = %(error)s, holder = NULL, lease_until = NULL,
       finished_at = CASE WHEN %(status)s IN ('done', 'abandoned', 'undone') THEN clock_timestamp() END
 WHERE id = %(campaign)s AND epoch = %(epoch)s;

-- name: abandon
UPDATE ragops.campaign SET status = 'abandoned', epoch = epoch + 1, holder = NULL, lease_until = NULL,
       finished_at = clock_timestamp()
 WHERE id = %(campaign)s AND epoch = %(epoch)s;

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

-- name: step_done
UPDATE ragops.step s
   SET status = 'done', finished_at = clock_timestamp(), effect = %(effect)s, error = NULL
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: step_failed
UPDATE ragops.step s
   SET status = 'failed', finished_at = clock_timestamp(), error = %(error)s, effect = %(effect)s
  FROM ragops.campaign c
 WHERE c.id = %(campaign)s AND c.epoch = %(epoch)s AND s.campaign_id = c.id AND s.number = %(number)s;

-- name: journal_index
INSERT INTO ragops.index_definition (campaign_id, schema_name, index_name, table_name, definition, bytes)
VALUES (%(campaign)s, %(schema)s, %(name)s, %(table)s, %(definition)s, %(bytes)s);

-- name: journaled_indexes
SELECT DISTINCT ON (schema_name, index_name) id, campaign_id, schema_name, index_name, table_name, definition
  FROM ragops.index_definition
 WHERE restored_at IS NULL AND (%(campaign)s::bigint IS NULL OR campaign_id = %(campaign)s)
 ORDER BY schema_name, index_name, id DESC;

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

-- name: archive_tables
-- Those of some campaigns, or all of them.
SELECT archive_table FROM ragops.archive
 WHERE %(campaigns)s::bigint[] IS NULL OR campaign_id = ANY(%(campaigns)s::bigint[]);

-- name: forget_archives
DELETE FROM ragops.archive
 WHERE %(campaigns)s::bigint[] IS NULL OR campaign_id = ANY(%(campaigns)s::bigint[]);

-- name: record_archive
INSERT INTO ragops.archive (id, campaign_id, logical, schema_name, table_name, archive_table, rows)
OVERRIDING SYSTEM VALUE
VALUES (%(id)s, %(campaign)s, %(logical)s, %(schema)s, %(table)s, %(archive_table)s, %(rows)s);

-- name: newest_archives
-- What was emptied together was archived in one transaction and has one time.
SELECT campaign_id, logical, schema_name, table_name, archive_table, rows
  FROM ragops.archive
 WHERE restored_at IS NULL
   AND created_at = (SELECT max(created_at) FROM ragops.archive WHERE restored_at IS NULL)
 ORDER BY id;

-- name: all_archives
SELECT a.id, a.campaign_id, a.table_name, a.rows,
       coalesce(pg_total_relation_size(to_regclass('ragops.' || quote_ident(a.archive_table))), 0),
       a.created_at, a.restored_at
  FROM ragops.archive a ORDER BY a.id;

-- name: archives_restored
UPDATE ragops.archive SET restored_at = clock_timestamp() WHERE archive_table = ANY(%(names)s);

-- name: save_fingerprint
INSERT INTO ragops.fingerprint (id, document) VALUES (%(id)s, %(document)s) ON CONFLICT (id) DO NOTHING;

-- name: indexes_unrestored
UPDATE ragops.index_definition SET restored_at = NULL WHERE campaign_id = %(campaign)s;
