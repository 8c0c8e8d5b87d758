-- Rows that stay where they are: which of them to embed, their texts, and their vectors. `{key}`, `{content}` and
-- `{condition}` are expressions over the columns of `{table}`, `{filled}` is the vector column that is written.
-- Columns of the application are named in sub-selects alone, where no name of ragops can be taken for one of them.

-- name: selected
-- One target's rows that have a text and are to be embedded, with a place that orders them as they are stored.
SELECT {number} AS number, r.part, r.place, {prefix} || r.key AS location
  FROM (SELECT {key} AS key, {content} AS content, {filled} AS embedding, {changed_at} AS changed_at,
               {embedded_at} AS embedded_at, tableoid AS part, ctid AS place
          FROM {table} WHERE {condition} AND {more}) r
  LEFT JOIN ragops.row_state s
    ON s.key = r.key AND s.target_id = (SELECT t.id FROM ragops.target t
                                         WHERE t.relation = {relation} AND t.column_name = {column})
 WHERE r.content ~ '\S' AND ({kinds});

-- name: selected_untracked
-- The same without the states of rows, for a database that has none yet.
SELECT {number} AS number, r.part, r.place, {prefix} || r.key AS location
  FROM (SELECT {key} AS key, {content} AS content, {filled} AS embedding, {changed_at} AS changed_at,
               {embedded_at} AS embedded_at, tableoid AS part, ctid AS place
          FROM {table} WHERE {condition} AND {more}) r
  LEFT JOIN (SELECT NULL::bytea AS text_hash, NULL::timestamptz AS embedded_at WHERE false) s ON true
 WHERE r.content ~ '\S' AND ({kinds});

-- name: missing
-- A kind of rows: without a vector.
r.embedding IS NULL;

-- name: broken
-- A kind of rows: a vector that is zero, has another length than 1, or other dimensions than the model's.
(r.embedding IS NOT NULL
 AND ({ext}vector_dims(r.embedding::{ext}vector) <> {dimensions}
      OR NOT abs({ext}vector_norm(r.embedding::{ext}vector) - 1) <= {tolerance}));

-- name: stale
-- A kind of rows: the text is another one than was embedded, or the row changed after its vector was made.
(r.embedding IS NOT NULL
 AND (s.text_hash <> sha256(convert_to(r.content, 'UTF8'))
      OR r.changed_at > coalesce(r.embedded_at, s.embedded_at)));

-- name: all
-- A kind of rows: every row. Those that are divergent are told apart when they are embedded.
true;

-- name: fill
-- Queues the selected rows of all targets. width_bucket() counts the gates at or below the number of rows before
-- this one. The gates are literals, so that the statement can be printed before it runs.
INSERT INTO ragops.work (location, phase)
SELECT f.location,
       1 + width_bucket(row_number() OVER (ORDER BY f.number, f.part, f.place) - 1, {gates}::bigint[])
  FROM ({selections}) f ORDER BY f.number, f.part, f.place;

-- name: count_selected
-- The number of rows that would be queued, by target.
SELECT f.number, count(*) FROM ({selections}) f GROUP BY f.number;

-- name: clear_work
-- Removes the items of the filling before.
TRUNCATE TABLE ragops.work;

-- name: create_archive
-- The vectors that a campaign replaces, by key, with a hash of what it wrote.
CREATE TABLE {archive} (key text PRIMARY KEY, old {type}, new_hash bytea NOT NULL);

-- name: register_archive
-- Makes the archive known to undo.
INSERT INTO ragops.vector_archive (id, campaign_id, target_id, archive_table) OVERRIDING SYSTEM VALUE
VALUES (%(id)s, %(campaign)s, %(target)s, %(archive)s);

-- name: next_archives
-- The numbers of the next archives, taken from the sequence: nobody else gets them.
SELECT nextval(pg_get_serial_sequence('ragops.vector_archive', 'id'))::bigint FROM generate_series(1, %(count)s);

-- name: expected_archive
-- The number that the next archive will have, without taking it.
SELECT coalesce((SELECT max(id) FROM ragops.vector_archive), 0) + 1;

-- name: target
-- The number by which ragops knows a vector column; made if it is new.
INSERT INTO ragops.target (relation, relation_oid, column_name, key_columns)
VALUES (%(relation)s, %(oid)s, %(column)s, %(key)s::text[])
    ON CONFLICT (relation, column_name) DO UPDATE
   SET relation_oid = excluded.relation_oid, key_columns = excluded.key_columns
RETURNING id;

-- name: find_target
-- The same without making it.
SELECT id FROM ragops.target WHERE relation = %(relation)s AND column_name = %(column)s;

-- name: texts
-- Some rows by key: the text, or NULL if it is long, its bytes, and a hash of the vector that the row has; no row for
-- a key that is gone. The values are cast, not the columns, so that the table's own index serves.
-- OFFSET keeps the server from computing a text twice.
SELECT w.location, CASE WHEN one.bytes <= %(most_bytes)s THEN one.text END, coalesce(one.bytes, 0), r.version
  FROM (SELECT u.location, {key_casts}
          FROM (SELECT l.location, substr(l.location, strpos(l.location, ':') + 1)::jsonb AS key
                  FROM unnest(%(locations)s::text[]) AS l (location)) u) w
  JOIN (SELECT {columns}, {content} AS content, {version} AS version FROM {table} WHERE {condition}) r ON {match}
 CROSS JOIN LATERAL (SELECT o.text, octet_length(o.text) AS bytes
                       FROM (SELECT r.content AS text OFFSET 0) AS o) AS one;

-- name: version
-- A part of `texts`: what tells whether a vector was replaced meanwhile. The transaction that wrote the row as it is now
-- (xmin), which is the same only for the same version of the row, and a hash of the vector, which is the same where
-- only other columns were written.
int8send(xmin::text::bigint) || coalesce(sha256({send}({filled})), '');

-- name: plan_by_key
-- Finds rows through the index of their key: of a temporary table the planner knows no statistics, and reads the whole
-- of the other one.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('ragops.writes', 'on', true);

-- name: create_incoming
-- A temporary table for the vectors of one target; gone with the transaction.
CREATE TEMPORARY TABLE {incoming} (item bigint, {keys}, key text, text_hash bytea, version bytea,
                                   embedding {ext}vector, new_hash bytea) ON COMMIT DROP;

-- name: copy_incoming
-- Receives them.
COPY {incoming} (item, {names}, key, text_hash, version, embedding, new_hash) FROM STDIN (FORMAT BINARY);

-- name: store
-- Writes the vectors of rows whose text is the one that was embedded, and notes what they were made of. Returns the
-- items that are done. SKIP LOCKED: a row that the application holds is tried again later, so that a store never
-- waits for the application and cannot be a part of a deadlock with it.
WITH matched AS MATERIALIZED (
    SELECT i.item, i.key, i.text_hash, i.new_hash, r.part, r.place, r.before, i.embedding::{type} AS after
      FROM (SELECT u.item, u.key, u.text_hash, u.version, u.embedding, u.new_hash, {casts} FROM {incoming} u) i
      JOIN (SELECT {columns}, {content} AS content, {filled} AS before, tableoid AS part, ctid AS place,
                   xmin AS written_by
              FROM {table} WHERE {condition}) r ON {match}
     WHERE sha256(convert_to(r.content, 'UTF8')) = i.text_hash{unchanged}
       FOR NO KEY UPDATE OF r SKIP LOCKED
), written AS (
    UPDATE {table} t SET {filled} = m.after
      FROM matched m WHERE t.ctid = m.place AND t.tableoid = m.part{differs}
    RETURNING m.item, m.key, m.text_hash, m.new_hash, m.before, t.{filled} AS after
){archived}, done AS (
    SELECT w.item, w.key, w.text_hash FROM written w{same}
), noted AS (
    INSERT INTO ragops.row_state AS s (target_id, key, text_hash, fingerprint)
    SELECT {target}, d.key, d.text_hash, {fingerprint} FROM done d
        ON CONFLICT (target_id, key) DO UPDATE
       SET text_hash = excluded.text_hash, fingerprint = excluded.fingerprint, embedded_at = clock_timestamp()
)
SELECT item FROM done;

-- name: unchanged
-- A part of `store`: the vector is still the one that was there when the text was read.
 AND (substr(i.version, 1, 8) = int8send(r.written_by::text::bigint)
          OR substr(i.version, 9) = coalesce(sha256({send}(r.before)), ''));

-- name: archived
-- A part of `store`: keeps what is replaced. What the campaign itself wrote before is no original.
, archived AS (
    INSERT INTO {archive} AS a (key, old, new_hash)
    SELECT w.key, w.before, coalesce(w.new_hash, sha256({send}(w.after))) FROM written w
        ON CONFLICT (key) DO UPDATE SET new_hash = excluded.new_hash
);

-- name: differs
-- A part of `store`: only vectors that lie farther from the new one than the limit are replaced.
 AND {divergence};

-- name: same
-- A part of `store`: the others are done as they are.
 UNION ALL SELECT m.item, m.key, m.text_hash FROM matched m WHERE NOT {divergence};

-- name: divergence
-- Whether a vector is missing, of other dimensions, without a distance, or too far away.
coalesce({ext}vector_dims(m.before::{ext}vector) <> {ext}vector_dims(m.after::{ext}vector)
         OR NOT (m.before::{ext}vector {cosine} m.after::{ext}vector) <= {max_distance}, true);

-- name: unwritten
-- Which of some items have a row that nobody else holds, and whether it still is as it was read.
SELECT i.item, coalesce(sha256(convert_to(r.content, 'UTF8')) = i.text_hash{unchanged}, false)
  FROM (SELECT u.item, u.text_hash, u.version, {casts} FROM {incoming} u WHERE u.item = ANY(%(items)s)) i
  JOIN (SELECT {columns}, {content} AS content, {filled} AS before, xmin AS written_by
          FROM {table} WHERE {condition}) r ON {match}
   FOR NO KEY UPDATE OF r SKIP LOCKED;

-- name: keep_incoming
-- Takes all but some items out of the temporary table.
DELETE FROM {incoming} WHERE item <> ALL(%(items)s);

-- name: oid_of
-- The table that has a name now.
SELECT to_regclass(%(name)s)::oid;

-- name: return_items
-- Puts items back into the queue whose row is locked, or gone.
UPDATE ragops.work SET status = 'pending', claimed_by = NULL WHERE id = ANY(%(ids)s);

-- name: return_changed
-- Puts items back into the queue whose row changed meanwhile. One of which that is true too often fails.
UPDATE ragops.work
   SET status = CASE WHEN (attempts + 1) %% %(most)s = 0 THEN 'failed' ELSE 'pending' END,
       claimed_by = CASE WHEN (attempts + 1) %% %(most)s = 0 THEN claimed_by END,
       last_error = CASE WHEN (attempts + 1) %% %(most)s = 0 THEN %(reason)s END,
       attempts = (attempts + 1) %% 30000
 WHERE id = ANY(%(ids)s) RETURNING id, status;

-- name: refuse_items
-- Fails items whose row does not take a vector.
UPDATE ragops.work SET status = 'failed', last_error = %(reason)s, attempts = (attempts + 1) %% 30000
 WHERE id = ANY(%(ids)s);

-- name: drop_items
-- Removes the items of rows that are gone, or have no text any more.
DELETE FROM ragops.work
 WHERE claim_id = %(claim_id)s AND status NOT IN ('pending', 'completed', 'failed') AND id = ANY(%(ids)s);

-- name: work_by_target
-- Items by the number of their target.
SELECT split_part(location, ':', 1)::int, count(*) FROM ragops.work GROUP BY 1;

-- name: draw_completed
-- Completed items of one target, drawn at random.
SELECT location FROM ragops.work WHERE status = 'completed' AND location LIKE %(prefix)s
 ORDER BY random() LIMIT %(size)s;

-- name: completed
-- Which of some locations are completed items.
SELECT location FROM ragops.work WHERE status = 'completed' AND location = ANY(%(locations)s::text[]);

-- name: text_hashes
-- What was embedded of some rows of a target.
SELECT s.key, s.text_hash FROM ragops.row_state s JOIN ragops.target t ON t.id = s.target_id
 WHERE t.relation = %(relation)s AND t.column_name = %(column)s AND s.key = ANY(%(keys)s::text[]);

-- name: stored
-- The texts and vectors of some rows by key, those that have both.
SELECT w.location, {bytes}, r.embedding
  FROM (SELECT u.location, {key_casts}
          FROM (SELECT l.location, substr(l.location, strpos(l.location, ':') + 1)::jsonb AS key
                  FROM unnest(%(locations)s::text[]) AS l (location)) u) w
  JOIN (SELECT {columns}, {content} AS content, {filled}::{ext}vector AS embedding
          FROM {table} WHERE {condition}) r ON {match}
 WHERE r.embedding IS NOT NULL AND r.content ~ '\S';

-- name: some_texts
-- Texts of a target's rows, drawn at random.
SELECT {bytes} FROM {relation} r
  JOIN (SELECT d.tableoid AS part, d.ctid AS place FROM {relation} d
         WHERE d.content ~ '\S' ORDER BY random() LIMIT %(size)s) s ON r.ctid = s.place AND r.tableoid = s.part;

-- name: target_counts
-- Rows of a target, and those with a vector.
SELECT count(*), count(r.embedding) FROM {relation} r;

-- name: target_details
-- Rows with a text and without a vector, zero vectors, and the distinct numbers of dimensions.
SELECT count(*) FILTER (WHERE r.embedding IS NULL AND r.content ~ '\S'),
       count(*) FILTER (WHERE {ext}vector_norm(r.embedding::{ext}vector) = 0),
       array_agg(DISTINCT {ext}vector_dims(r.embedding::{ext}vector)) FILTER (WHERE r.embedding IS NOT NULL)
  FROM {relation} r;
