-- Two vector columns of one table, and their indexes. `{key}`, `{content}` and `{condition}` are expressions over the
-- columns of `{table}`; `{old}` and `{new}` are the columns.

-- name: indexes
-- The valid vector indexes of a table and its partitions that are on one column, or on an expression over it alone:
-- names by what an index does. That of a partitioned table has those of its partitions with it.
SELECT am.amname, o.opcname, pg_get_indexdef(i.oid, 1, true), format_type(ia.atttypid, ia.atttypmod), x.indkey[0] = 0,
       coalesce(pg_get_expr(x.indpred, x.indrelid), ''), array_agg(i.relname::text ORDER BY i.relname)
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_opclass o ON o.oid = x.indclass[0]
  JOIN pg_attribute ia ON ia.attrelid = i.oid AND ia.attnum = 1
 WHERE x.indrelid IN (SELECT %(oid)s::oid UNION ALL
                      SELECT p.relid FROM pg_partition_tree(%(oid)s::oid) p WHERE p.level > 0)
   AND am.amname IN ('hnsw', 'ivfflat') AND x.indisvalid
   AND (SELECT array_agg(DISTINCT a.attname::text)
          FROM pg_attribute a
         WHERE a.attrelid = x.indrelid
           AND CASE WHEN x.indkey[0] <> 0 THEN a.attnum = x.indkey[0]
                    ELSE a.attnum IN (SELECT d.refobjsubid FROM pg_depend d
                                       WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
                                         AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid
                                         AND d.refobjsubid > 0) END) @> ARRAY[%(column)s::text]
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 6, 1, 2, 3;

-- name: drawn
-- Rows with a new vector, one from each of so many equal parts of the table in the order of storage: what was written
-- at different times and by different writers is drawn alike. The order is made over places, so that texts and vectors
-- are read for the drawn rows only. With the number of rows that could have been drawn.
SELECT d.rows, r.key, {text}, r.old, r.new
  FROM (SELECT DISTINCT ON (n.stratum) n.part, n.place, n.rows
          FROM (SELECT x.part, x.place, ntile(%(size)s) OVER (ORDER BY x.part, x.place) AS stratum,
                       count(*) OVER () AS rows
                  FROM (SELECT tableoid AS part, ctid AS place, {content} AS content FROM {table}
                         WHERE {condition} AND {new} IS NOT NULL) x
                 WHERE x.content ~ '\S') n
         ORDER BY n.stratum, md5(n.place::text || %(seed)s), n.part) d
  JOIN (SELECT {key} AS key, {content} AS content, {old}::{ext}vector AS old, {new}::{ext}vector AS new,
               tableoid AS part, ctid AS place FROM {table}) r ON r.place = d.place AND r.part = d.part
 ORDER BY r.key;

-- name: vectors
-- Every row with a vector: its key, both vectors, whether it belongs to the target, and whether each side's partial
-- index has it.
COPY (SELECT {key}, {old}::{ext}vector, {new}::{ext}vector, coalesce(({condition}), false),
             coalesce(({old_predicate}), false), coalesce(({new_predicate}), false)
        FROM {table} WHERE {old} IS NOT NULL OR {new} IS NOT NULL) TO STDOUT (FORMAT BINARY);

-- name: nearest
-- The nearest rows as an application asks for them.
SELECT {key}, ({expression}) {distance} %(vector)s::{kind} FROM {table} WHERE {predicate}
 ORDER BY ({expression}) {distance} %(vector)s::{kind} LIMIT %(limit)s;

-- name: ef_search
-- How far an HNSW index searches, as this role has it; NULL where pgvector was not loaded yet.
SELECT current_setting('hnsw.ef_search', true);
