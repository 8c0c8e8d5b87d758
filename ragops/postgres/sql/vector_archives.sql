-- Archives of vectors that were replaced in place, `ragops.vectors_N (key, old, new_hash)`, and how they come back.
-- `{archive}` is one of them, `{table}` and `{column}` what it was made of.

-- name: archives
-- Every archive with its target, the oldest first, and how far an undo has come with it.
SELECT v.id, v.campaign_id, v.target_id, v.archive_table, t.relation, t.relation_oid::bigint, t.column_name,
       t.key_columns, v.undo_id, v.undone_to, v.restored, v.changed, v.deleted, v.left_rows, v.restored_at IS NOT NULL
  FROM ragops.vector_archive v JOIN ragops.target t ON t.id = v.target_id ORDER BY v.id;

-- name: listed
-- The same for people, with sizes. By way of JSON: a ledger of an older version has fewer columns.
SELECT v.id, v.campaign_id, t.relation, t.column_name, v.archive_table,
       coalesce(pg_total_relation_size(to_regclass('ragops.' || quote_ident(v.archive_table))), 0),
       v.created_at, v.restored_at
  FROM ragops.vector_archive v JOIN ragops.target t ON t.id = v.target_id ORDER BY v.id;

-- name: count
-- How many vectors an archive holds, and how many of them were NULL.
SELECT count(*), count(*) - count(old) FROM {archive};

-- name: has_archive
-- Whether an archive's table is there, and may be read.
SELECT coalesce(bool_or(has_table_privilege(c.oid, 'SELECT')), false)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'ragops' AND c.relname = %(archive)s;

-- name: begin
-- Gives an undo the archives of some campaigns.
UPDATE ragops.vector_archive
   SET undo_id = %(undo)s, undone_to = NULL, restored = 0, changed = 0, deleted = 0, left_rows = '[]',
       restored_at = NULL
 WHERE campaign_id = ANY(%(campaigns)s);

-- name: campaigns_undoing
-- Ends the campaigns for whoever holds them, until the last vector is back.
WITH ended AS (
    UPDATE ragops.campaign
       SET status = 'undoing', error = NULL, epoch = epoch + 1, holder = NULL, lease_until = NULL, finished_at = NULL
     WHERE id = ANY(%(campaigns)s)
    RETURNING id
)
DELETE FROM ragops.lease l USING ended e WHERE l.campaign_id = e.id;

-- name: note_progress
-- What `ragops status` shows of an undo that runs or was interrupted.
UPDATE ragops.campaign SET error = %(text)s WHERE status = 'undoing' AND id = ANY(%(campaigns)s);

-- name: lock_archive
-- How far an archive is, for one undo at a time.
SELECT undone_to, restored_at IS NOT NULL FROM ragops.vector_archive WHERE id = %(id)s FOR UPDATE;

-- name: next_keys
-- The next keys of an archive in the order of its primary key.
SELECT key FROM {archive} WHERE key > coalesce(%(after)s, '') ORDER BY key LIMIT %(size)s;

-- name: restore
-- Puts the old vectors of some rows back where the vector is still the one that the campaign wrote, and forgets what
-- that was made of. Returns the rows that are there, `stands` or `changed`, and again those that were `restored`. One
-- that stands and was not restored was changed by another transaction at this moment, so that this statement does not
-- see it yet. It is locked now, and the same statement finds it.
-- No join of these lists: without hash joins (`plan_by_key`) it would compare each key with each other one, and took
-- 17 s for 2,000 rows instead of half a second.
WITH keyed AS MATERIALIZED (
    SELECT u.key, u.old, u.new_hash, {key_casts}
      FROM (SELECT a.key, a.old, a.new_hash, a.key::jsonb AS parts FROM {archive} a
             WHERE a.key = ANY(%(keys)s)) u
), matched AS MATERIALIZED (
    SELECT i.key, i.old, r.part, r.place, sha256({send}(r.now)) IS NOT DISTINCT FROM i.new_hash AS stands
      FROM keyed i
      JOIN (SELECT {columns}, {column} AS now, tableoid AS part, ctid AS place FROM {table}) r ON {match}
       FOR NO KEY UPDATE OF r
), written AS (
    UPDATE {table} t SET {column} = m.old FROM matched m
     WHERE t.ctid = m.place AND t.tableoid = m.part AND m.stands
    RETURNING m.key
), forgotten AS (
    DELETE FROM ragops.row_state s USING written w WHERE s.target_id = %(target)s AND s.key = w.key
)
SELECT m.key, CASE WHEN m.stands THEN 'stands' ELSE 'changed' END FROM matched m
 UNION ALL
SELECT w.key, 'restored' FROM written w;

-- name: record
-- Notes how far an archive is, in the transaction that puts its vectors back.
UPDATE ragops.vector_archive
   SET undone_to = %(to)s, restored = restored + %(restored)s, changed = changed + %(changed)s,
       deleted = deleted + %(deleted)s,
       left_rows = CASE WHEN jsonb_array_length(left_rows) < %(most)s THEN left_rows || %(left)s::jsonb ELSE left_rows END
 WHERE id = %(id)s;

-- name: finish
-- Notes that an archive has no vector left to put back.
UPDATE ragops.vector_archive SET restored_at = clock_timestamp() WHERE id = %(id)s AND restored_at IS NULL;

-- name: forget
-- Forgets all archives and returns their tables.
DELETE FROM ragops.vector_archive RETURNING archive_table;
