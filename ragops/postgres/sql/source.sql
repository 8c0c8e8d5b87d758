-- Documents that are rows of this database. `{relation}` is a sub-select `source` with the columns id and text.

-- name: ids
-- The ids of all rows as text, in the order of the ids' own type.
SELECT id::text FROM {relation} WHERE id IS NOT NULL ORDER BY source.id;

-- name: check
-- Reads no row, but fails if the relation cannot be read, lacks a column, or has ids without an order (json, point).
SELECT id, text::text FROM {relation} ORDER BY source.id LIMIT 0;

-- name: id_column
-- Reads no row; the type of its column is the type of the ids.
SELECT id FROM {relation} LIMIT 0;

-- name: type_name
-- The name of a type as SQL spells it. -1 instead of NULL: that gives `bpchar` for character(n), where `character`
-- would be character(1) and cut every id.
SELECT format_type(%(oid)s::oid, -1);

-- name: pin_text_form
-- Makes the text form of dates, times, floats, money and bytea the same in every session, until the transaction ends.
-- Ids are kept in the queue as text, and the role or the database of a worker may have other settings.
SELECT set_config('DateStyle', 'ISO, YMD', true), set_config('TimeZone', 'UTC', true),
       set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true), set_config('lc_monetary', 'C', true);

-- name: count
-- Rows, rows with an id, distinct ids, the first and the last id and the length of the longest, in one scan. Compared
-- as text, since a location is text.
SELECT count(*), count(id), count(DISTINCT id::text COLLATE "C"),
       min(id::text COLLATE "C"), max(id::text COLLATE "C"), max(length(id::text))
  FROM {relation};

-- name: count_unique
-- The same where a unique index vouches for the ids: nothing has to be sorted.
SELECT count(*), count(id), count(id),
       min(id::text COLLATE "C"), max(id::text COLLATE "C"), max(length(id::text))
  FROM {relation};

-- name: has_unique_ids
-- Whether a unique index keeps a column's values apart, NULL excepted. That of a partitioned table, too; not one that
-- is invalid, partial, deferrable, or on an expression.
SELECT EXISTS (
       SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = to_regclass(%(table)s) AND a.attname = %(column)s AND i.indnkeyatts = 1 AND i.indisunique
          AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (SELECT 1 FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhparent
                           WHERE h.inhparent = i.indrelid AND c.relkind <> 'p'));

-- name: sample
-- Some ids, drawn by a hash, with what tells their texts apart. The scan ends when it has found enough.
SELECT id::text, encode(sha256(convert_to(text::text, 'UTF8')), 'hex'), coalesce(octet_length(text::text), 0)
  FROM {relation}
 WHERE id IS NOT NULL AND hashtextextended(id::text COLLATE "C", %(seed)s) %% %(modulus)s = 0
 LIMIT %(limit)s;

-- name: count_ids
-- Rows with an id.
SELECT count(id) FROM {relation};

-- name: repeated
-- Some ids that several rows have, with their number.
SELECT id::text COLLATE "C", count(*) FROM {relation} WHERE id IS NOT NULL
 GROUP BY id::text COLLATE "C" HAVING count(*) > 1 ORDER BY count(*) DESC, id::text COLLATE "C" LIMIT 3;

-- name: explain
-- The plan of a scan, which names the relations that it reads. The statement is not executed.
EXPLAIN (VERBOSE, FORMAT JSON) SELECT id, text FROM {relation};

-- name: create_view
-- A view of the source, in a transaction that is rolled back: the server then knows everything that it depends on.
CREATE TEMPORARY VIEW ragops_source_reads (id, text) AS SELECT id, text FROM {relation};

-- name: view_reads
-- The relations and functions that the view depends on: class and object.
SELECT d.refclassid = 'pg_class'::regclass, d.refobjid::bigint
  FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
 WHERE w.ev_class = 'pg_temp.ragops_source_reads'::regclass AND d.refobjid <> w.ev_class
   AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass);

-- name: relation_oid
-- The oid of a relation by schema and name; no row if there is none.
SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s;

-- name: reads
-- Which of the tables would lose rows that the source reads: the table's oid, and the relation or function that the
-- source names. Goes from a view to what its rule depends on, from a function to what its body depends on, and from
-- a table to its partitions and heirs; TRUNCATE and DELETE reach the latter, too. The body of a function in quotes
-- has no dependencies: one that names the table is taken to read it.
WITH RECURSIVE reached (class, object, root_class, root) AS (
    SELECT 'pg_class'::regclass::oid, r.oid, 'pg_class'::regclass::oid, r.oid
      FROM unnest(%(relations)s::oid[]) AS r (oid)
    UNION
    SELECT 'pg_proc'::regclass::oid, f.oid, 'pg_proc'::regclass::oid, f.oid
      FROM unnest(%(functions)s::oid[]) AS f (oid)
    UNION
    SELECT next.class, next.object, r.root_class, r.root
      FROM reached r CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid
          FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
         WHERE r.class = 'pg_class'::regclass AND w.ev_class = r.object AND w.ev_type = '1'
           AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
        UNION ALL
        SELECT d.refclassid, d.refobjid FROM pg_depend d
         WHERE r.class = 'pg_proc'::regclass AND d.classid = 'pg_proc'::regclass AND d.objid = r.object
           AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
        UNION ALL
        SELECT 'pg_class'::regclass::oid, i.inhrelid FROM pg_inherits i
         WHERE r.class = 'pg_class'::regclass AND i.inhparent = r.object
      ) AS next (class, object)
), emptied ("table", object) AS (
    SELECT t.oid, t.oid FROM unnest(%(tables)s::oid[]) AS t (oid)
    UNION
    SELECT e."table", i.inhrelid FROM emptied e JOIN pg_inherits i ON i.inhparent = e.object
)
SELECT e."table"::bigint,
       min(CASE WHEN r.root_class = 'pg_proc'::regclass THEN r.root::regprocedure::text
                ELSE (SELECT n.nspname || '.' || c.relname FROM pg_class c
                        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = r.root) END)
  FROM emptied e JOIN reached r
    ON (r.class = 'pg_class'::regclass AND r.object = e.object)
    OR (r.class = 'pg_proc'::regclass AND EXISTS (
          SELECT 1 FROM pg_proc p JOIN pg_class c ON c.oid = e.object
           WHERE p.oid = r.object AND p.prosqlbody IS NULL
             AND p.prosrc ~* ('\m' || regexp_replace(c.relname, '([^[:alnum:]_])', '\\\1', 'g') || '\M')))
 GROUP BY e."table";

-- name: texts
-- Some rows by id: the text, or NULL if it is long, and its bytes; no row for an id that is gone. The ids are cast, not
-- the column, so that the table's own index serves. OFFSET keeps the server from computing a query's text twice.
SELECT id::text, CASE WHEN one.bytes <= %(most_bytes)s THEN one.text END, coalesce(one.bytes, 0)
  FROM {relation}
 CROSS JOIN LATERAL (SELECT o.text, octet_length(o.text) AS bytes
                       FROM (SELECT source.text::text AS text OFFSET 0) AS o) AS one
 WHERE id = ANY(%(ids)s::text[]::{id_type}[]);
