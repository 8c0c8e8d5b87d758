-- A sample of rows of any table: which rows, and what expressions over their columns give. Rows are found again by
-- their place (ctid), so that no key is needed; a row that moves meanwhile is left out.
-- `{condition}` and `{value}` are SQL of the operator. Only the table is in FROM, so that the table's columns alone
-- have a meaning in them.

-- name: places
-- Rows with a vector, and one row of each of %(size)s parts of the table that have equally many rows, in physical order:
-- tables that grow are in the order of time. The count of all rows stands in each.
WITH placed AS MATERIALIZED (
  SELECT tableoid AS part, ctid AS place, ntile(%(size)s) OVER (ORDER BY tableoid, ctid) AS stratum
    FROM {table} WHERE {embedding} IS NOT NULL AND {condition}),
drawn AS (SELECT DISTINCT ON (stratum) part, place FROM placed ORDER BY stratum, random())
SELECT part::bigint, place::text, (SELECT count(*) FROM placed) FROM drawn ORDER BY part, place;

-- name: values
-- An expression over some rows, each with its place. Places of other partitions may be among them.
SELECT tableoid::bigint, ctid::text, {value} FROM {table} WHERE ctid = ANY (%(places)s::text[]::tid[]);

-- name: capped
-- A text up to a number of bytes, NULL for a longer one, and the size.
(SELECT CASE WHEN octet_length(q.v) <= {most} THEN {text} END FROM (SELECT {value} AS v) q),
       octet_length({value});

-- name: scalars
-- The keys of a JSON column whose values are short, as a JSON object of texts; NULL where it is no object.
CASE WHEN jsonb_typeof({column}::jsonb) = 'object' THEN
  (SELECT jsonb_object_agg(e.key, e.value #>> '{{}}') FROM jsonb_each({column}::jsonb) AS e
    WHERE jsonb_typeof(e.value) IN ('string', 'number', 'boolean') AND octet_length(e.value #>> '{{}}') <= {most}) END;

-- name: start
-- The start of a value, as text.
left({column}::text, {most});

-- name: digest
-- A JSON object with the starts of its values as texts, in its order; NULL for another value.
CASE WHEN json_typeof({column}::json) = 'object' THEN
  (SELECT json_object_agg(e.key, left(e.value #>> '{{}}', 300) ORDER BY e.n)
     FROM json_each({column}::json) WITH ORDINALITY AS e (key, value, n))::text END;

-- name: size
-- The bytes that a column takes, without a look at what is stored apart; terms of a sum.
coalesce(pg_column_size({column}), 0);
