-- Documents that are rows of this database. `{relation}` is a sub-select `source` with the columns id and text.

-- name: ids
-- The ids of all rows as text, in the order of the ids' own type.
SELECT id::text FROM {relation} WHERE id IS NOT NULL ORDER BY source.id;

-- name: check
-- Reads no row, but fails if the relation cannot be read or lacks a column.
SELECT id, text::text FROM {relation} LIMIT 0;

-- name: id_column
-- Reads no row; the type of its column is the type of the ids.
SELECT id FROM {relation} LIMIT 0;

-- name: type_name
-- The name of a type as SQL spells it.
SELECT format_type(%(oid)s::oid, NULL);

-- name: texts
-- The texts of some rows by id; no row for an id that is gone. The ids are cast, not the column, so that the table's
-- own index serves.
SELECT id::text, text::text FROM {relation} WHERE id = ANY(%(ids)s::text[]::{id_type}[]);
