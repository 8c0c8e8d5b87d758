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
