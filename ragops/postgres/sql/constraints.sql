-- What is attached to tables and roles and can stand in the way of a campaign's writes. Nothing here reads rows,
-- except `filled`.

-- name: structure
-- Everything that is attached to one table: one row, columns as the fields of StructureFacts. A partition's triggers,
-- publications and replica identity count as its table's.
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.relnamespace, c.relname,
           format('%%I.%%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
    UNION ALL
    SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.relnamespace, c.relname,
           format('%%I.%%I', n.nspname, c.relname)
      FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT ARRAY(SELECT format('%%I.%%I', n.nspname, c.relname)
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
               JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE i.inhparent = %(oid)s ORDER BY 1) AS children,
       ARRAY(SELECT name FROM tree WHERE oid <> %(oid)s AND relpersistence = 'u' ORDER BY 1) AS unlogged_partitions,
       ARRAY(SELECT format('%%I.%%I', n.nspname, c.relname)
               FROM tree t JOIN pg_index x ON x.indrelid = t.oid AND NOT x.indisvalid
               JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              ORDER BY 1) AS invalid_indexes,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', g.tgname, 'table', t.name, 'function', p.proname,
                   'when', CASE WHEN g.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END,
                   'events', array_remove(ARRAY[CASE WHEN g.tgtype & 4 <> 0 THEN 'INSERT' END,
                                                CASE WHEN g.tgtype & 16 <> 0 THEN 'UPDATE' END,
                                                CASE WHEN g.tgtype & 8 <> 0 THEN 'DELETE' END,
                                                CASE WHEN g.tgtype & 32 <> 0 THEN 'TRUNCATE' END], NULL),
                   'is_per_row', g.tgtype & 1 <> 0) ORDER BY t.name, g.tgname), '[]')
          FROM tree t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgparentid = 0
          JOIN pg_proc p ON p.oid = g.tgfoid
         WHERE g.tgenabled IN ('O', 'A')) AS triggers,
       (SELECT coalesce(jsonb_object_agg(e.event, e.names), '{{}}')
          FROM (SELECT k.event, array_agg(DISTINCT p.pubname ORDER BY p.pubname) AS names
                  FROM tree t JOIN pg_namespace n ON n.oid = t.relnamespace
                  JOIN pg_publication_tables v ON v.schemaname = n.nspname AND v.tablename = t.relname
                  JOIN pg_publication p ON p.pubname = v.pubname
                  CROSS JOIN LATERAL (VALUES ('UPDATE', p.pubupdate), ('DELETE', p.pubdelete),
                                             ('TRUNCATE', p.pubtruncate)) AS k (event, is_on)
                 WHERE k.is_on GROUP BY k.event) e) AS published,
       ARRAY(SELECT t.name FROM tree t
              WHERE t.relkind = 'r'
                AND NOT CASE t.relreplident
                          WHEN 'f' THEN true
                          WHEN 'd' THEN EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = t.oid AND x.indisprimary)
                          WHEN 'i' THEN EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = t.oid AND x.indisreplident)
                          ELSE false END
              ORDER BY 1) AS without_identity,
       (SELECT coalesce(jsonb_object_agg(a.attname, a.attgenerated), '{{}}') FROM pg_attribute a
         WHERE a.attrelid = %(oid)s AND a.attgenerated <> '' AND NOT a.attisdropped) AS generated,
       (SELECT coalesce(jsonb_object_agg(a.attname, pg_get_expr(d.adbin, d.adrelid)), '{{}}')
          FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE d.adrelid = %(oid)s AND a.attgenerated = '') AS defaults,
       -- A default depends on its sequence; an identity's sequence depends on the column.
       (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object(
                   'column', a.attname, 'name', format('%%I.%%I', n.nspname, s.relname),
                   'is_usable', has_sequence_privilege(s.oid, 'USAGE, UPDATE'), 'is_identity', a.attidentity <> '')), '[]')
          FROM pg_attribute a
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          JOIN pg_depend p ON (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                               AND p.refclassid = 'pg_class'::regclass)
                           OR (p.classid = 'pg_class'::regclass AND p.refobjid = a.attrelid
                               AND p.refobjsubid = a.attnum AND p.deptype = 'i')
          JOIN pg_class s ON s.relkind = 'S' AND s.oid IN (p.objid, p.refobjid)
          JOIN pg_namespace n ON n.oid = s.relnamespace
         WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped) AS sequences,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', c.relname,
                   'is_constraint', EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid
                                                                            AND k.conrelid = x.indrelid),
                   'columns', ARRAY(SELECT coalesce(a.attname, '')
                                      FROM unnest(x.indkey[0:x.indnkeyatts - 1]) AS k (attnum)
                                      LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum))
                   ORDER BY c.relname), '[]')
          FROM tree t JOIN pg_index x ON x.indrelid = t.oid AND x.indisunique
          JOIN pg_class c ON c.oid = x.indexrelid) AS uniques,
       ARRAY(SELECT format('%%I.%%I.%%I', n.nspname, c.relname, a.attname)
               FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
               JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT c.relispartition AND c.oid <> %(oid)s
                AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ragops') AND c.relpersistence <> 't'
                AND a.attname IN ('document_id', 'documents_id', 'doc_id')
                AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
                                                                AND a.attnum = ANY (k.conkey))
              ORDER BY 1) AS mentions;

-- name: connection_limits
-- The most connections that the server, the role and the database allow, and how many of each are taken. Other
-- roles' sessions are counted, too: their names are visible to everyone. Reserved ones are not for this role.
SELECT current_setting('max_connections')::int
         - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
             + CASE WHEN pg_has_role(r.oid, coalesce((SELECT oid FROM pg_roles
                                                       WHERE rolname = 'pg_use_reserved_connections'), r.oid), 'USAGE')
                    THEN 0 ELSE coalesce(current_setting('reserved_connections', true)::int, 0) END END AS server_limit,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS server_used,
       CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END AS role_limit,
       (SELECT count(*)::int FROM pg_stat_activity WHERE usename = r.rolname
                                                     AND backend_type = 'client backend') AS role_used,
       CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END AS database_limit,
       (SELECT count(*)::int FROM pg_stat_activity WHERE datname = d.datname
                                                     AND backend_type = 'client backend') AS database_used
  FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database();

-- name: encoding
-- The encoding of the database.
SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database();

-- name: secured
-- Those tables whose row-level security applies to the role, quoted: they show it a part of their rows.
SELECT format('%%I.%%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid)
   AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[])) ORDER BY 1;

-- name: explain
-- The plan of a source, which names every table that it reads, also those behind views.
EXPLAIN (FORMAT JSON, VERBOSE) SELECT * FROM {relation};

-- name: filled
-- How many rows hold something else than what their column would be filled with, by one scan.
SELECT {counts} FROM {table};

-- name: seeded
-- The items of some locations, in the order of claiming.
SELECT {files_queue_id} FROM {files_queue} WHERE {files_queue_location}::text = ANY(%(locations)s::text[]);

-- name: move_forward
-- Puts items before all others, so that the next claim takes these.
UPDATE {files_queue} SET {files_queue_phase} = -32768 WHERE {files_queue_id} = ANY(%(ids)s);

-- name: stored
-- How many of some rows are there, as they were written.
SELECT count(*), count(*) FILTER (WHERE {content}::text = ANY(%(texts)s::text[])), count({embedding})
  FROM {table} WHERE {key} = ANY(%(ids)s::text[]::{type}[]);

-- name: largest
-- The largest value of a column, which an index answers.
SELECT max({key}) FROM {table};

-- name: delete_none
-- Deletes no row: the server checks all that it checks before it looks for rows.
DELETE FROM {table} WHERE false;

-- name: check_deferred
-- Checks now what is deferred to the end of a transaction.
SET CONSTRAINTS ALL IMMEDIATE;
