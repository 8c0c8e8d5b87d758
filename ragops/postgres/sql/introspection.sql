-- What a database holds that a playbook could be written for. Reading needs SELECT on the table, and nothing else.

-- name: vector_columns
-- The columns whose type pgvector can index, without those of partitions, which their table stands for, and of ragops'
-- own tables. bit columns count where they are wide or have a vector index: narrow ones are flags.
SELECT n.nspname::text AS schema, c.relname::text AS relation,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
                      WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END AS relation_kind,
       a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, b.typname::text AS kind,
       nullif(CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END, -1) AS dimensions,
       CASE WHEN c.relkind = 'p' THEN
              (SELECT sum(p.reltuples)::bigint FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
                WHERE i.inhparent = c.oid HAVING bool_and(p.reltuples >= 0))
            WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS may_read
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typbasetype <> 0 THEN t.typbasetype ELSE t.oid END
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ragops') AND n.nspname !~ '^pg_(toast|temp)'
   AND has_schema_privilege(n.oid, 'USAGE')
   AND (b.typnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector')
        AND b.typname IN ('vector', 'halfvec', 'sparsevec')
        OR b.oid = 'pg_catalog.bit'::regtype
           AND (a.atttypmod >= 64
                OR EXISTS (SELECT 1 FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                             JOIN pg_am m ON m.oid = i.relam
                            WHERE x.indrelid = c.oid AND a.attnum = ANY(x.indkey::int2[])
                              AND m.amname IN ('hnsw', 'ivfflat'))))
 ORDER BY 1, 2, a.attnum;

-- name: view_sources
-- The tables with vector columns that a view reads, qualified.
SELECT DISTINCT format('%%I.%%I', n.nspname, c.relname)
  FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.refobjid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE r.ev_class = %(oid)s AND c.oid <> r.ev_class AND c.relkind IN ('r', 'p')
 ORDER BY 1;

-- name: columns
-- The columns of a table: name, type, type without domain and modifier, whether it is a text, generated, readable, and
-- where the table was analyzed and the role may know it the share of NULL values, and the number of different values
-- (negative: as a share of the rows).
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, b.typname::text AS base_type,
       b.typcategory = 'S' AND b.typname <> 'name' AS is_text, a.attgenerated <> '' AS is_generated,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS may_read,
       s.null_share, s.different
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typbasetype <> 0 THEN t.typbasetype ELSE t.oid END
  LEFT JOIN LATERAL (SELECT p.null_frac::float8 AS null_share, p.n_distinct::float8 AS different FROM pg_stats p
                      WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND p.attname = a.attname
                      ORDER BY p.inherited DESC LIMIT 1) s ON true
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum;

-- name: sample
-- The beginnings and the lengths of some rows' values, two columns for each.
SELECT {values} FROM (SELECT {columns} FROM {table} LIMIT {limit}) AS sampled;

-- name: json_keys
-- The keys of some rows' objects whose values are texts: name, rows, average length.
SELECT e.key, count(*), avg(length(e.value #>> '{{}}'))::float8
  FROM (SELECT {column}::jsonb AS object FROM {table} WHERE {column} IS NOT NULL LIMIT {limit}) AS sampled
 CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(object) = 'object' THEN object ELSE '{{}}' END) AS e
 WHERE jsonb_typeof(e.value) = 'string'
 GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 30;

-- name: keys
-- The unique indexes of a table: columns, whether it is the primary key, whether it identifies every row.
SELECT ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(x.indkey[0:x.indnkeyatts - 1])
                    WITH ORDINALITY AS k (attnum, place)
               LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum AND k.attnum > 0
              ORDER BY k.place) AS columns,
       x.indisprimary AS is_primary,
       x.indisvalid AND x.indimmediate AND x.indpred IS NULL
       AND NOT EXISTS (SELECT 1 FROM unnest(x.indkey[0:x.indnkeyatts - 1]) AS e (attnum)
                         LEFT JOIN pg_attribute b ON b.attrelid = x.indrelid AND b.attnum = e.attnum
                        WHERE b.attnotnull IS NOT TRUE) AS is_usable
  FROM pg_index x WHERE x.indrelid = %(oid)s AND x.indisunique
 ORDER BY x.indisprimary DESC, x.indnkeyatts, x.indexrelid;

-- name: neighbours
-- The names of the relations and of the functions in a table's schema.
SELECT ARRAY(SELECT r.relname::text FROM pg_class r
              WHERE r.relnamespace = c.relnamespace AND r.relkind IN ('r', 'p', 'v', 'm', 'f')),
       ARRAY(SELECT DISTINCT p.proname::text FROM pg_proc p WHERE p.pronamespace = c.relnamespace)
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: views
-- The views that read a table, by name.
SELECT DISTINCT format('%%I.%%I', n.nspname, v.relname)
  FROM pg_depend d
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  JOIN pg_class v ON v.oid = r.ev_class
  JOIN pg_namespace n ON n.oid = v.relnamespace
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND v.oid <> %(oid)s
 ORDER BY 1;

-- name: row_security
-- Whether policies hide rows of a table from the role.
SELECT row_security_active(%(oid)s::oid);

-- name: opclasses
-- The vector indexes that begin with a column of a table: name, method, operator class, validity.
SELECT i.relname::text AS name, m.amname::text AS method, o.opcname::text AS opclass, x.indisvalid AS is_valid
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am m ON m.oid = i.relam
  JOIN pg_opclass o ON o.oid = x.indclass[0]
  JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
 WHERE x.indrelid = %(oid)s AND a.attname = %(column)s AND m.amname IN ('hnsw', 'ivfflat')
 ORDER BY 1;

-- name: vectors
-- What some rows hold in a vector column: dimensions (NULL for a missing vector), rows, those of them that are zero or
-- not finite. A norm is NULL for no vector and NaN or infinite for one with such a value.
SELECT {ext}vector_dims({column}), count(*),
       count(*) FILTER (WHERE NOT ({norm} > 0 AND {norm} < 'Infinity'))
  FROM (SELECT {column} FROM {table} WHERE {condition} LIMIT {limit}) AS sampled
 GROUP BY 1 ORDER BY 2 DESC;

-- name: missing
-- Whether a row has no vector.
SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NULL AND {condition});

-- name: groups
-- The values of a column with their rows, the largest group first.
SELECT {column}::text, count(*) FROM {table} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit};

-- name: group_dimensions
-- The dimensions of the vectors of some rows of each group.
SELECT {column}::text, array_agg(DISTINCT {ext}vector_dims({vector}))
  FROM {table} WHERE {vector} IS NOT NULL GROUP BY 1;

-- name: reference
-- The table that a column references by a foreign key of one column: schema, name, referenced column, its columns.
SELECT n.nspname::text, r.relname::text, f.attname::text,
       ARRAY(SELECT t.attname::text FROM pg_attribute t
              WHERE t.attrelid = r.oid AND t.attnum > 0 AND NOT t.attisdropped
                AND has_column_privilege(r.oid, t.attnum, 'SELECT'))
  FROM pg_constraint k
  JOIN pg_class r ON r.oid = k.confrelid
  JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
  JOIN pg_attribute f ON f.attrelid = r.oid AND f.attnum = k.confkey[1]
 WHERE k.contype = 'f' AND k.conrelid = %(oid)s AND a.attname = %(column)s AND cardinality(k.conkey) = 1
   AND has_schema_privilege(n.oid, 'USAGE')
 LIMIT 1;

-- name: reference_names
-- The names of referenced rows: key, name.
SELECT {key}::text, {name}::text FROM {table} LIMIT {limit};

-- name: repeated
-- One combination of a key's values that is NULL in a part, or that two rows share; no row if it identifies a row.
SELECT {shown} FROM {table} GROUP BY {columns} HAVING count(*) > 1 OR {nulls} LIMIT 1;

-- name: node
-- How LlamaIndex composes the texts of some rows: its templates, each set once, and whether a value of the metadata is
-- an array or an object.
SELECT DISTINCT node->>'metadata_template' AS metadata_template,
       coalesce(node->>'metadata_separator', node->>'metadata_seperator') AS separator,
       node->>'text_template' AS text_template,
       EXISTS (SELECT 1 FROM json_each(node->'metadata') AS m
                WHERE json_typeof(m.value) IN ('array', 'object')) AS has_nested
  FROM (SELECT ({metadata}->>'_node_content')::json AS node FROM {table}
         WHERE {metadata}->>'_node_content' IS NOT NULL LIMIT {limit}) AS sampled;

-- name: vectorizers
-- The vectorizers of pgai, each as JSON: the columns of their table differ between its versions.
SELECT to_jsonb(v) FROM ai.vectorizer AS v;

-- name: texts
-- The texts of some rows as a target composes them.
SELECT left({text}, 200) FROM {table} WHERE {condition} LIMIT {limit};
