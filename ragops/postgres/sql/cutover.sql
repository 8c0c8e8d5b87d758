-- The second vector column: what hangs on a column, what is noted about it, and which rows still need a vector.

-- name: column
-- One column, as a second one must be made like it. `grants` are the privileges on the column alone.
SELECT a.attnum::int AS number, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS is_not_null,
       pg_get_expr(d.adbin, d.adrelid) AS default_value,
       CASE WHEN a.attstorage <> t.typstorage THEN
            CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
       END AS storage,
       nullif(coalesce(a.attstattarget, -1), -1)::int AS statistics, col_description(a.attrelid, a.attnum) AS comment,
       coalesce((SELECT jsonb_agg(jsonb_build_array(CASE WHEN g.grantee = 0 THEN '' ELSE pg_get_userbyid(g.grantee) END,
                                                    g.privilege_type, g.is_grantable) ORDER BY 1)
                   FROM aclexplode(a.attacl) g), '[]') AS grants
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s AND NOT a.attisdropped;

-- name: dependents
-- What refers to a column of a table or of its partitions, by the column's number: a renamed column would take it
-- along. `definition` is the statement that makes it again; `undo` is what must go before.
WITH RECURSIVE tree (relid) AS (
    SELECT %(oid)s::oid
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relid
), direct AS (
    SELECT DISTINCT d.classid, d.objid, d.objsubid, tree.relid, d.deptype
      FROM tree
      JOIN pg_attribute a ON a.attrelid = tree.relid AND a.attname = %(column)s AND NOT a.attisdropped
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = tree.relid AND d.refobjsubid = a.attnum
), views (oid, depth) AS (
    SELECT DISTINCT r.ev_class, 1 FROM direct d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    UNION
    SELECT r.ev_class, v.depth + 1
      FROM views v
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> v.oid
)
SELECT 'view' AS kind, c.oid::bigint AS oid, format('%%I.%%I', n.nspname, c.relname) AS name, max(v.depth)::int AS depth,
       CASE WHEN c.relkind = 'v' AND pg_has_role(c.relowner, 'USAGE') THEN pg_get_viewdef(c.oid) END AS definition,
       CASE WHEN c.relkind = 'v' AND NOT pg_has_role(c.relowner, 'USAGE') THEN 'view of another role'
            WHEN c.relkind = 'v' THEN 'view' WHEN c.relkind = 'm' THEN 'materialized view' ELSE 'rule' END AS what
  FROM views v JOIN pg_class c ON c.oid = v.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_rewrite r ON r.ev_class = c.oid AND (c.relkind NOT IN ('v', 'm') OR r.rulename = '_RETURN')
 GROUP BY c.oid, n.nspname, c.relname, c.relkind, c.relowner, r.rulename
UNION ALL
SELECT 'function', p.oid::bigint, p.oid::regprocedure::text, 1,
       CASE WHEN pg_has_role(p.proowner, 'USAGE') THEN pg_get_functiondef(p.oid) END,
       CASE WHEN pg_has_role(p.proowner, 'USAGE') THEN 'function' ELSE 'function of another role' END
  FROM direct d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
UNION ALL
SELECT 'trigger', t.oid::bigint, quote_ident(t.tgname), 1, pg_get_triggerdef(t.oid), t.tgenabled::text
  FROM direct d JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
 WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'policy', p.oid::bigint, format('%%I ON %%s', p.polname, p.polrelid::regclass), 1,
       format('ALTER POLICY %%I ON %%s', p.polname, p.polrelid::regclass)
       || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
       || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''), 'policy'
  FROM direct d JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
UNION ALL
SELECT 'generated column', a.attrelid::bigint, format('%%s.%%I', a.attrelid::regclass, a.attname), 1, NULL, 'generated column'
  FROM direct d JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
  JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
UNION ALL
SELECT 'constraint', c.oid::bigint, quote_ident(c.conname), 1, NULL, pg_get_constraintdef(c.oid)
  FROM direct d JOIN pg_constraint c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
 WHERE c.contype NOT IN ('n') AND d.relid = %(oid)s AND c.conname NOT LIKE 'ragops\_filled\_%%'
UNION ALL
SELECT 'statistics', s.oid::bigint, quote_ident(s.stxname), 1, NULL, 'extended statistics'
  FROM direct d JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
 ORDER BY 1, 4, 3;

-- name: count_dependents
-- A number that changes with what refers to a column by its number, views of views left out.
SELECT coalesce(sum(d.objid::bigint * (1 + d.classid::bigint)), 0)
  FROM pg_attribute a
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s AND NOT a.attisdropped;

-- name: view
-- What belongs to a view beside its query.
SELECT c.reloptions AS options, pg_get_userbyid(c.relowner) AS owner, obj_description(c.oid, 'pg_class') AS comment,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND t.typname IN ('vector', 'halfvec')) AS shows_vectors,
       coalesce((SELECT jsonb_agg(jsonb_build_array(CASE WHEN g.grantee = 0 THEN '' ELSE pg_get_userbyid(g.grantee) END,
                                                    g.privilege_type, g.is_grantable) ORDER BY 1)
                   FROM aclexplode(c.relacl) g WHERE g.grantee <> c.relowner), '[]') AS grants,
       coalesce((SELECT jsonb_object_agg(a.attname, col_description(c.oid, a.attnum)) FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NOT NULL), '{{}}') AS comments,
       EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) AS has_column_grants,
       (EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
        OR EXISTS (SELECT 1 FROM pg_attrdef d WHERE d.adrelid = c.oid)
        OR EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
        OR EXISTS (SELECT 1 FROM pg_depend d
                    WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid IN (c.reltype, (SELECT y.typarray FROM pg_type y WHERE y.oid = c.reltype))
                      AND d.deptype = 'n')
        OR EXISTS (SELECT 1 FROM pg_depend d
                    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'n'
                      AND d.classid <> 'pg_rewrite'::regclass)) AS is_used
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: published
-- Publications that send a column of a table or of its partitions to subscribers.
WITH RECURSIVE tree (relid) AS (
    SELECT %(oid)s::oid
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relid
)
SELECT DISTINCT p.pubname::text
  FROM pg_publication_tables p
  JOIN tree ON tree.relid = format('%%I.%%I', p.schemaname, p.tablename)::regclass
 WHERE %(column)s = ANY (p.attnames) ORDER BY 1;

-- name: indexes
-- The valid indexes that a column of a table or of its partitions belongs to, the partitioned ones first.
WITH RECURSIVE tree (relid) AS (
    SELECT %(oid)s::oid
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relid
)
SELECT DISTINCT tree.relid::bigint, n.nspname::text, c.relname::text, pg_get_indexdef(c.oid), c.relkind = 'I',
       obj_description(c.oid, 'pg_class')
  FROM tree
  JOIN pg_attribute a ON a.attrelid = tree.relid AND a.attname = %(column)s AND NOT a.attisdropped
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = tree.relid AND d.refobjsubid = a.attnum
                  AND d.classid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('i', 'I')
  JOIN pg_index x ON x.indexrelid = c.oid AND x.indisvalid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 5 DESC, 2, 3;

-- name: relation_names
-- Which of these names are taken in a schema.
SELECT relname::text FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relname = ANY(%(names)s);

-- name: cutovers
-- Every second column that was ever made, the oldest first.
SELECT c.id, c.campaign_id, c.target_id, c.old_column, c.new_column, c.state, c.definition, c.changed_at,
       t.relation, t.relation_oid::bigint, t.key_columns
  FROM ragops.cutover c JOIN ragops.target t ON t.id = c.target_id ORDER BY c.id;

-- name: insert_cutover
-- A new second column, before it is filled.
INSERT INTO ragops.cutover (campaign_id, target_id, old_column, new_column, definition)
VALUES (%(campaign)s, %(target)s, %(old)s, %(new)s, %(definition)s) RETURNING id;

-- name: lock_cutovers
-- Two commands that exchange columns come here one after the other.
SELECT id, state FROM ragops.cutover WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE;

-- name: set_state
-- How far a second column is.
UPDATE ragops.cutover
   SET state = %(state)s, definition = definition || %(more)s, changed_at = clock_timestamp()
 WHERE id = %(id)s;

-- name: note
-- Adds to what is noted about a second column; a NULL takes a key away.
UPDATE ragops.cutover SET definition = jsonb_strip_nulls(definition || %(more)s) WHERE id = %(id)s;

-- name: waiting
-- Noted keys by second column: those that wait, and those that were written since the cutover and have been embedded.
SELECT cutover_id, count(DISTINCT key) FILTER (WHERE NOT is_kept), count(DISTINCT key) FILTER (WHERE is_kept)
  FROM ragops.captured GROUP BY 1;

-- name: waiting_rows
-- Notes that wait, of some second columns; not more than a limit is counted.
SELECT count(*) FROM (SELECT 1 FROM ragops.captured
                       WHERE cutover_id = ANY(%(ids)s) AND NOT is_kept LIMIT %(limit)s) w;

-- name: last_captured
-- The newest note so far. Exact only while no other session can write the table.
SELECT coalesce(max(id), 0) FROM ragops.captured;

-- name: written_since
-- Keys of rows that were written while the new column had the old one's name.
SELECT DISTINCT key FROM ragops.captured WHERE cutover_id = %(id)s AND is_kept ORDER BY 1;

-- name: keep_since
-- Keeps the keys of rows that were written between a cutover and its rollback; their notes go on waiting.
INSERT INTO ragops.captured (cutover_id, key, is_kept)
SELECT DISTINCT %(id)s::bigint, w.key, true FROM ragops.captured w
 WHERE w.cutover_id = %(id)s AND w.id > %(bound)s AND w.id <= %(until)s AND NOT w.is_kept
   AND NOT EXISTS (SELECT 1 FROM ragops.captured k WHERE k.cutover_id = %(id)s AND k.key = w.key AND k.is_kept);

-- name: create_taken
-- Keys of noted rows, gone with the transaction.
CREATE TEMPORARY TABLE ragops_taken (number int, key text) ON COMMIT DROP;

-- name: create_drained
-- Locations of rows that need an item, gone with the transaction.
CREATE TEMPORARY TABLE ragops_drained (location text) ON COMMIT DROP;

-- name: take_captured
-- Takes the notes that wait. Of those that are newer than the cutover, if there was one, one note per key stays: the
-- first column has no vector of these rows.
WITH taken AS (
    DELETE FROM ragops.captured WHERE cutover_id = %(id)s AND NOT is_kept RETURNING key, id
), keys AS (
    SELECT key, max(id) AS newest FROM taken GROUP BY key
), kept AS (
    INSERT INTO ragops.captured (cutover_id, key, is_kept)
    SELECT %(id)s, k.key, true FROM keys k
     WHERE k.newest > %(bound)s::bigint
       AND NOT EXISTS (SELECT 1 FROM ragops.captured c WHERE c.cutover_id = %(id)s AND c.key = k.key AND c.is_kept)
)
INSERT INTO ragops_taken (number, key) SELECT %(number)s, key FROM keys;

-- name: forget_captured
-- Removes the notes of a second column that is gone.
DELETE FROM ragops.captured WHERE cutover_id = %(id)s;

-- name: forget_rows
-- Forgets of which texts the vectors of a column were made.
DELETE FROM ragops.row_state WHERE target_id = %(id)s;

-- name: rename_target
-- Follows a column that was renamed.
UPDATE ragops.target SET column_name = %(column)s WHERE id = %(id)s;

-- name: target_of
-- The number of a column; no row if it was never written.
SELECT id FROM ragops.target WHERE relation = %(relation)s AND column_name = %(column)s;

-- name: plan_as_usual
-- Ends what `plan_by_key` asks the planner for.
SELECT set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);

-- name: needing
-- Of the taken rows those whose vector is not of their present text.
INSERT INTO ragops_drained (location)
SELECT {number}::text || ':' || r.key
  FROM (SELECT {key_casts} FROM (SELECT n.key::jsonb AS key FROM ragops_taken n WHERE n.number = {number}) u) w
  JOIN (SELECT {columns}, {key} AS key, {content} AS content, {filled} AS embedding FROM {table} WHERE {condition}) r
    ON {match}
  LEFT JOIN ragops.row_state s ON s.target_id = {target} AND s.key = r.key
 WHERE r.content ~ '\S'
   AND ({always} OR r.embedding IS NULL OR s.text_hash IS DISTINCT FROM sha256(convert_to(r.content, 'UTF8')));

-- name: clear_textless
-- Of the taken rows those that have no text (any more): their vector goes.
UPDATE {table} t SET {filled} = NULL
  FROM (SELECT {key_casts} FROM (SELECT n.key::jsonb AS key FROM ragops_taken n WHERE n.number = {number}) u) w
  JOIN (SELECT {columns}, {content} AS content, tableoid AS part, ctid AS place, {filled} AS embedding
          FROM {table} WHERE {condition}) r ON {match}
 WHERE t.ctid = r.place AND t.tableoid = r.part AND r.embedding IS NOT NULL AND (r.content ~ '\S') IS NOT TRUE;

-- name: sweep
-- Of all rows those whose vector is not of their present text, except those that failed.
INSERT INTO ragops_drained (location)
SELECT {number}::text || ':' || r.key
  FROM (SELECT {key} AS key, {content} AS content, {filled} IS NULL AS is_missing FROM {table} WHERE {condition}) r
  LEFT JOIN ragops.row_state s ON s.target_id = {target} AND s.key = r.key
 WHERE r.content ~ '\S'
   AND (r.is_missing OR s.text_hash IS DISTINCT FROM sha256(convert_to(r.content, 'UTF8')))
   AND NOT EXISTS (SELECT 1 FROM ragops.work w WHERE w.status = 'failed' AND w.location = {number}::text || ':' || r.key);

-- name: clear_all_textless
-- The vectors of rows that have no text (any more).
UPDATE {table} SET {filled} = NULL
 WHERE {filled} IS NOT NULL AND ({content} ~ '\S') IS NOT TRUE AND {condition};

-- name: reopen
-- Opens the items again that the queue has of the drained rows.
UPDATE ragops.work w SET status = 'pending', attempts = 0, phase = {phase}, claim_id = NULL, claimed_by = NULL,
       lease_until = NULL, last_error = NULL
  FROM ragops_drained d WHERE w.location = d.location AND w.status IN ('completed', 'failed');

-- name: queue
-- New items, behind every gate, of the drained rows that have none.
INSERT INTO ragops.work (location, phase)
SELECT DISTINCT d.location, {phase}
  FROM ragops_drained d WHERE NOT EXISTS (SELECT 1 FROM ragops.work w WHERE w.location = d.location);

-- name: filled
-- Rows that belong to a target and have a text, and those of them that have a vector.
SELECT count(*), count({filled}) FROM {table} WHERE {condition} AND {content} ~ '\S';

-- name: missing
-- Whether a column has a NULL.
SELECT EXISTS (SELECT 1 FROM {table} WHERE {filled} IS NULL);

-- name: hopeless
-- Whether a row has no vector, and no note that it waits for one.
SELECT EXISTS (SELECT 1 FROM (SELECT {key} AS key FROM {table} WHERE {filled} IS NULL) r
                WHERE NOT EXISTS (SELECT 1 FROM ragops.captured c
                                   WHERE c.cutover_id = %(id)s AND c.key = r.key AND NOT c.is_kept));

-- name: left_behind
-- The number of rows outside of a target that have a vector, and none in the second column.
SELECT count(*) FROM {table} WHERE {embedding} IS NOT NULL AND ({condition}) IS NOT TRUE{unfilled};
