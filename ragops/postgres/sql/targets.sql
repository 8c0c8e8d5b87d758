-- Tables whose rows stay: what identifies a row, and what is attached to the vector column.

-- name: key
-- The columns of the primary key, else of the smallest unique index over NOT NULL columns, in their order; no row
-- without one. An index on expressions or with a predicate identifies nothing.
SELECT array_agg(a.attname ORDER BY k.place)
  FROM (SELECT x.indexrelid, x.indkey, x.indnkeyatts FROM pg_index x
         WHERE x.indrelid = %(oid)s AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
           AND NOT EXISTS (SELECT 1 FROM unnest(x.indkey[0:x.indnkeyatts - 1]) AS e (attnum)
                             LEFT JOIN pg_attribute b ON b.attrelid = x.indrelid AND b.attnum = e.attnum
                            WHERE b.attnotnull IS NOT TRUE)
         ORDER BY x.indisprimary DESC, x.indnkeyatts, x.indexrelid LIMIT 1) i
  CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, place)
  JOIN pg_attribute a ON a.attrelid = %(oid)s AND a.attnum = k.attnum
HAVING count(*) > 0;

-- name: attachments
-- What is attached to a vector column of a table, and what the role may do: one row. `filled` is the column that is
-- written; while it does not exist, triggers that name columns do not fire. A partition's triggers, views and rules
-- count as its table's. `state` of a trigger: O fires as usual, R only for a replica, A always. ragops' own trigger,
-- which notes the keys of rows, is none of them.
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relkind, c.relname, c.relnamespace, format('%%I.%%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
    UNION ALL
    SELECT c.oid, c.relkind, c.relname, c.relnamespace, format('%%I.%%I', n.nspname, c.relname)
      FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', g.tgname, 'table', t.name, 'function', p.proname,
                   'when', CASE WHEN g.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END,
                   'events', array_remove(ARRAY[CASE WHEN g.tgtype & 4 <> 0 THEN 'INSERT' END, 'UPDATE',
                                                CASE WHEN g.tgtype & 8 <> 0 THEN 'DELETE' END], NULL),
                   'is_per_row', g.tgtype & 1 <> 0, 'state', g.tgenabled,
                   'assigns', ARRAY(SELECT DISTINCT lower(m[1])
                                      FROM regexp_matches(p.prosrc, '\mNEW\.\"?(\w+)\"?\s*:?=[^=]', 'gi') AS m
                                     WHERE g.tgtype & 3 = 3 ORDER BY 1))
                   ORDER BY t.name, g.tgname), '[]')
          FROM tree t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgparentid = 0
          JOIN pg_proc p ON p.oid = g.tgfoid
          LEFT JOIN pg_namespace own ON own.oid = p.pronamespace AND own.nspname = 'ragops'
         WHERE g.tgenabled <> 'D' AND g.tgtype & 16 <> 0 AND own.oid IS NULL
           AND (cardinality(g.tgattr::int2[]) = 0
                OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = %(filled)s
                                                          AND a.attnum = ANY (g.tgattr::int2[])))) AS fired,
       ARRAY(SELECT format('%%I on %%s', w.rulename, t.name) FROM tree t JOIN pg_rewrite w ON w.ev_class = t.oid
              WHERE w.ev_type = '2' AND w.ev_enabled IN ('O', 'A') ORDER BY 1) AS rules,
       ARRAY(SELECT name FROM tree WHERE relkind = 'f' ORDER BY 1) AS foreign_partitions,
       (SELECT jsonb_build_object(
                 'storage', CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main'
                                              ELSE 'extended' END,
                 -- NULL from PostgreSQL 17 on, and -1 before, is the default.
                 'statistics', nullif(a.attstattarget, -1),
                 'comment', col_description(a.attrelid, a.attnum),
                 'grants', (SELECT jsonb_object_agg(x.role, x.privileges)
                              FROM (SELECT CASE WHEN l.grantee = 0 THEN 'PUBLIC'
                                                ELSE pg_get_userbyid(l.grantee) END AS role,
                                           array_agg(l.privilege_type ORDER BY l.privilege_type) AS privileges
                                      FROM aclexplode(a.attacl) l GROUP BY 1) x))
          FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attname = %(column)s) AS column_facts,
       row_security_active(%(oid)s::oid) AS is_row_security_active,
       ARRAY(SELECT a.attname FROM pg_attribute a
              WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
                AND NOT has_column_privilege(a.attrelid, a.attnum, 'SELECT')) AS unreadable,
       NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attname = %(filled)s
                     AND NOT has_column_privilege(a.attrelid, a.attnum, 'UPDATE')) AS may_update,
       has_database_privilege(current_database(), 'TEMP') AS may_use_temp,
       (SELECT c.relispartition OR c.reloftype <> 0 FROM pg_class c WHERE c.oid = %(oid)s) AS has_fixed_columns,
       ARRAY(SELECT format('%%s (%%s)', v.pubname,
                           concat_ws(', ', CASE WHEN v.attnames IS NOT NULL AND NOT %(column)s = ANY (v.attnames)
                                                THEN 'without this column' END,
                                           'WHERE ' || v.rowfilter))
               FROM tree t JOIN pg_namespace n ON n.oid = t.relnamespace
               JOIN pg_publication_tables v ON v.schemaname = n.nspname AND v.tablename = t.relname
              WHERE v.rowfilter IS NOT NULL OR NOT %(column)s = ANY (v.attnames)
              ORDER BY 1) AS partial_publications;

-- name: may_silence
-- Whether the role may set session_replication_role, with which triggers do not fire in its own transaction.
SELECT r.rolsuper OR has_parameter_privilege('session_replication_role', 'SET')
  FROM pg_roles r WHERE r.rolname = current_user;

-- name: may_silence_before_15
-- The same of a server that can grant no parameter.
SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user;

-- name: dependents
-- What refers to the column: kind, name, and the statement that makes it again (empty where none does), views before
-- those that read them. Names are as SQL needs them. pg_depend has no entry for what a function in quotes names:
-- such functions are found by their text.
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relname FROM pg_class c WHERE c.oid = %(oid)s
    UNION ALL
    SELECT c.oid, c.relname FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
), attr AS (
    SELECT t.oid, t.relname, a.attnum FROM tree t JOIN pg_attribute a ON a.attrelid = t.oid
     WHERE a.attname = %(column)s AND NOT a.attisdropped
), direct AS (
    SELECT DISTINCT d.classid, d.objid, d.objsubid FROM attr a
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid AND d.refobjsubid = a.attnum
     WHERE d.deptype IN ('n', 'a')
), views AS (
    SELECT w.ev_class AS oid, 1 AS depth FROM direct d
      JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
     WHERE w.ev_class NOT IN (SELECT oid FROM tree)
    UNION
    SELECT w.ev_class, v.depth + 1 FROM views v
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid
                      AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> v.oid
     WHERE v.depth < 20
), found AS (
    SELECT 1 AS sort, max(v.depth) AS depth,
           CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END AS kind,
           format('%%I.%%I', n.nspname, c.relname) AS name,
           format(CASE c.relkind WHEN 'm' THEN 'CREATE MATERIALIZED VIEW %%I.%%I%%s AS %%s'
                                 ELSE 'CREATE OR REPLACE VIEW %%I.%%I%%s AS %%s' END,
                  n.nspname, c.relname, ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                  rtrim(pg_get_viewdef(c.oid), ';')) AS definition
      FROM views v JOIN pg_class c ON c.oid = v.oid AND c.relkind IN ('v', 'm')
      JOIN pg_namespace n ON n.oid = c.relnamespace
     GROUP BY c.oid, c.relkind, n.nspname, c.relname, c.reloptions
    UNION ALL
    SELECT 2, 0, 'rule', format('%%I on %%I.%%I', w.rulename, n.nspname, c.relname), pg_get_ruledef(w.oid)
      FROM direct d JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
      JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE w.ev_class IN (SELECT oid FROM tree)
    UNION ALL
    SELECT 3, 0, 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid)
      FROM direct d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prokind IN ('f', 'p')
    UNION ALL
    SELECT 4, 0, 'policy', format('%%I on %%I.%%I', p.polname, n.nspname, c.relname),
           format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s%%s%%s', p.polname, n.nspname, c.relname,
                  CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                  (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                     FROM unnest(p.polroles) AS r),
                  ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                  ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
      FROM direct d JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
      JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    SELECT 5, 0, CASE WHEN b.attgenerated <> '' THEN 'generated column' ELSE 'default' END,
           format('%%I.%%I.%%I', n.nspname, c.relname, b.attname),
           CASE WHEN b.attgenerated <> ''
                THEN format('ALTER TABLE %%I.%%I ADD COLUMN %%I %%s GENERATED ALWAYS AS (%%s) %%s', n.nspname, c.relname,
                            b.attname, format_type(b.atttypid, b.atttypmod), pg_get_expr(x.adbin, x.adrelid),
                            CASE b.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)
                ELSE format('ALTER TABLE %%I.%%I ALTER COLUMN %%I SET DEFAULT %%s', n.nspname, c.relname, b.attname,
                            pg_get_expr(x.adbin, x.adrelid)) END
      FROM (SELECT d.objid FROM direct d WHERE d.classid = 'pg_attrdef'::regclass
            UNION
            -- From PostgreSQL 18 on a generated column itself depends on what it reads.
            SELECT e.oid FROM direct d JOIN pg_attrdef e ON e.adrelid = d.objid AND e.adnum = d.objsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objsubid <> 0) y
      JOIN pg_attrdef x ON x.oid = y.objid
      JOIN pg_attribute b ON b.attrelid = x.adrelid AND b.attnum = x.adnum
      JOIN pg_class c ON c.oid = x.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = %(oid)s OR NOT c.relispartition
    UNION ALL
    SELECT 6, 0, 'constraint', format('%%I on %%I.%%I', k.conname, n.nspname, c.relname),
           format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, c.relname, k.conname,
                  pg_get_constraintdef(k.oid))
      FROM direct d JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
      JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     -- The NOT NULL of PostgreSQL 18 goes with the column.
     WHERE k.contype <> 'n' AND k.conparentid = 0 AND k.coninhcount = 0
    UNION ALL
    SELECT 7, 0, 'trigger', format('%%I on %%I.%%I', g.tgname, n.nspname, c.relname), pg_get_triggerdef(g.oid)
      FROM direct d JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
                                     AND NOT g.tgisinternal AND g.tgparentid = 0
      JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    SELECT 8, 0, 'statistics', format('%%I.%%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
      FROM direct d JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
      JOIN pg_namespace n ON n.oid = s.stxnamespace
    UNION ALL
    SELECT 9, 0, 'publication', quote_ident(b.pubname), ''
      FROM direct d JOIN pg_publication_rel r ON d.classid = 'pg_publication_rel'::regclass AND r.oid = d.objid
      JOIN pg_publication b ON b.oid = r.prpubid
    UNION ALL
    SELECT 10, 0, 'function by its text', p.oid::regprocedure::text, ''
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname IN ('plpgsql', 'sql')
      JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'ragops') AND p.prokind IN ('f', 'p')
       AND p.prosrc ~* ('(?<!\w)' || regexp_replace(%(column)s, '(\W)', '\\\1', 'g') || '(?!\w)')
       AND (EXISTS (SELECT 1 FROM tree t
                     WHERE p.prosrc ~* ('(?<!\w)' || regexp_replace(t.relname, '(\W)', '\\\1', 'g') || '(?!\w)'))
            OR EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgfoid = p.oid AND g.tgrelid IN (SELECT oid FROM tree)))
       AND NOT EXISTS (SELECT 1 FROM direct d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid)
       AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
                                                   AND e.deptype = 'e')
)
SELECT kind, name, definition FROM found ORDER BY sort, depth, name;

-- name: identities
-- Which of some types, by the names of a table's columns, have no operator that tells two values apart, or a text
-- form that does not.
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
  LEFT JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
 WHERE a.attrelid = %(oid)s AND a.attname = ANY (%(columns)s::text[]) AND NOT a.attisdropped
   AND (coalesce(b.oid, t.oid) IN ('real'::regtype, 'double precision'::regtype, 'json'::regtype, 'money'::regtype,
                                   'xml'::regtype)
        OR NOT EXISTS (SELECT 1 FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
                        WHERE o.opcdefault
                          AND (o.opcintype = coalesce(b.oid, t.oid)
                               OR coalesce(b.typtype, t.typtype) IN ('e', 'r', 'm', 'c')
                               OR coalesce(b.typelem, t.typelem) <> 0
                               OR EXISTS (SELECT 1 FROM pg_cast k WHERE k.castsource = coalesce(b.oid, t.oid)
                                             AND k.casttarget = o.opcintype AND k.castmethod = 'b'))));

-- name: has_unique_key
-- Whether a unique index over some of these columns, all of them NOT NULL, keeps rows apart.
SELECT EXISTS (
       SELECT 1 FROM pg_index x
        WHERE x.indrelid = %(oid)s AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
          AND NOT EXISTS (SELECT 1 FROM unnest(x.indkey[0:x.indnkeyatts - 1]) AS e (attnum)
                            LEFT JOIN pg_attribute b ON b.attrelid = x.indrelid AND b.attnum = e.attnum
                           WHERE b.attnotnull IS NOT TRUE OR NOT b.attname = ANY (%(columns)s::text[])));

-- name: count_keys
-- Rows, rows with a NULL in the key, and distinct keys, by one scan and a sort.
SELECT count(*), count(*) FILTER (WHERE {with_null}), count(DISTINCT {key}) FROM {table};

-- name: count_selected
-- Rows that belong to a target, and those of them that have a text.
SELECT count(*), count(*) FILTER (WHERE r.content ~ '\S') FROM {relation} r;

-- name: explain_expression
-- The plan of an expression over a table's rows. CASE makes the server refuse one that returns a set, and the row's
-- place an aggregate; the outer condition keeps a volatile one in a subquery of its own, which the plan then shows.
EXPLAIN (FORMAT JSON)
 SELECT r.value FROM (SELECT CASE WHEN true THEN {expression} END AS value, ctid AS place FROM {table}) AS r
  WHERE r.value IS NOT NULL;

-- name: rehearse_update
-- Writes a vector into one row of a target that nobody holds, in a transaction that is rolled back.
UPDATE {table} t SET {column} = %(vector)s::text::{type}
  FROM (SELECT r.tableoid AS part, r.ctid AS place FROM {relation} r LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) s
 WHERE t.ctid = s.place AND t.tableoid = s.part;
