-- The schema `ragops`, created by `ragops db init` or the first campaign, all of it in one transaction.

-- name: create_schema
-- ragops' tables, apart from the application's.
CREATE SCHEMA IF NOT EXISTS ragops;

-- name: create_campaign
-- Campaigns: their playbook and plan, how far they are, and who controls them until when.
CREATE TABLE IF NOT EXISTS ragops.campaign (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL,
    playbook     jsonb       NOT NULL,
    plan         jsonb       NOT NULL,
    status       text        NOT NULL DEFAULT 'running'
                 CHECK (status IN ('running', 'stopped', 'gate_failed', 'failed', 'done', 'abandoned', 'undone')),
    phase        smallint    NOT NULL DEFAULT 0,
    epoch        bigint      NOT NULL DEFAULT 1,
    holder       text,
    lease_until  timestamptz,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);

-- name: create_step
-- The steps of campaigns, with what each of them did.
CREATE TABLE IF NOT EXISTS ragops.step (
    campaign_id  bigint      NOT NULL REFERENCES ragops.campaign,
    number       integer     NOT NULL,
    verb         text        NOT NULL,
    status       text        NOT NULL DEFAULT 'planned'
                 CHECK (status IN ('planned', 'running', 'done', 'failed')),
    effect       jsonb,
    error        text,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (campaign_id, number)
);

-- name: create_index_definition
-- The journal of dropped indexes, from which they are restored.
CREATE TABLE IF NOT EXISTS ragops.index_definition (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint REFERENCES ragops.campaign,
    schema_name  text        NOT NULL,
    index_name   text        NOT NULL,
    table_name   text        NOT NULL,
    definition   text        NOT NULL,
    bytes        bigint      NOT NULL,
    dropped_at   timestamptz NOT NULL DEFAULT now(),
    restored_at  timestamptz
);

-- name: create_archive
-- The archives of emptied tables, from which undo restores the rows.
CREATE TABLE IF NOT EXISTS ragops.archive (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id   bigint REFERENCES ragops.campaign,
    logical       text        NOT NULL,
    schema_name   text        NOT NULL,
    table_name    text        NOT NULL,
    archive_table text        NOT NULL UNIQUE,
    rows          bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    restored_at   timestamptz
);

-- name: create_fingerprint
-- Fingerprints of the workers that wrote vectors: build, model and settings.
CREATE TABLE IF NOT EXISTS ragops.fingerprint (
    id           text PRIMARY KEY,
    document     jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- name: create_source
-- What a queue was last filled from: its locations mean nothing without it.
CREATE TABLE IF NOT EXISTS ragops.source (
    queue        text PRIMARY KEY,
    source       jsonb       NOT NULL,
    seeded_at    timestamptz NOT NULL DEFAULT now()
);

-- name: create_undo
-- Undos: which rows came back, and whether the indexes are all there again. An undo that a crash interrupted is
-- found here and finished.
CREATE TABLE IF NOT EXISTS ragops.undo (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint REFERENCES ragops.campaign,
    generation   bigint,
    rows         jsonb       NOT NULL,
    removed      bigint,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);

-- name: extend_archive
-- What an archive belongs to: the emptying that it was made in (`generation`, the number of its first archive), the
-- table itself, what the queue was filled from at that time, and the undo that made it, if one did. In a database
-- that was restored from a dump all tables have other oids, and so has the database.
ALTER TABLE ragops.archive
    ADD COLUMN IF NOT EXISTS generation   bigint,
    ADD COLUMN IF NOT EXISTS table_oid    bigint,
    ADD COLUMN IF NOT EXISTS database_oid bigint,
    ADD COLUMN IF NOT EXISTS queue_source jsonb,
    ADD COLUMN IF NOT EXISTS undo_id      bigint REFERENCES ragops.undo;

-- name: number_generations
-- Archives of older versions: what was emptied together was archived in one transaction and has one time.
UPDATE ragops.archive a
   SET generation = (SELECT min(b.id) FROM ragops.archive b WHERE b.created_at = a.created_at)
 WHERE generation IS NULL;

-- name: extend_index_definition
-- What a definition leaves out (tablespace, comment, statistics targets, the index of the partitioned table), and the
-- undo that brings the index back.
ALTER TABLE ragops.index_definition
    ADD COLUMN IF NOT EXISTS properties jsonb,
    ADD COLUMN IF NOT EXISTS undo_id    bigint REFERENCES ragops.undo;

-- name: create_lease
-- Until when a campaign is held. Apart from the campaign, whose row a destructive transaction locks for as long as it
-- runs: the lease is renewed meanwhile. No foreign key, because its check would wait for that lock.
CREATE TABLE IF NOT EXISTS ragops.lease (
    campaign_id  bigint      PRIMARY KEY,
    epoch        bigint      NOT NULL,
    holder       text        NOT NULL,
    lease_until  timestamptz NOT NULL
);

-- name: extend_source
-- A queue's filling: its number, what moves its vectors (fingerprint and cutting), and no source where ragops only
-- emptied the queue.
ALTER TABLE ragops.source
    ADD COLUMN IF NOT EXISTS generation  bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS fingerprint text,
    ADD COLUMN IF NOT EXISTS chunking    jsonb,
    ALTER COLUMN source DROP NOT NULL;

-- name: forget_typed_sources
-- Older versions kept a source by the name that the playbook spells. Of two spellings of one table the newer counts.
-- Spelled with other signs than these, it is found and converted by the command that maps it.
DELETE FROM ragops.source s
 USING (SELECT o.queue, row_number() OVER (PARTITION BY c.oid ORDER BY o.seeded_at DESC, o.queue) AS place
          FROM ragops.source o
          JOIN pg_catalog.pg_class c ON c.oid = CASE WHEN o.queue ~ '^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)?$'
                                                     THEN to_regclass(o.queue) END) found
 WHERE s.queue = found.queue AND found.place > 1;

-- name: qualify_sources
-- The sources that are left get the key of this version.
UPDATE ragops.source s
   SET queue = quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = CASE WHEN s.queue ~ '^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)?$' THEN to_regclass(s.queue) END
   AND s.queue <> quote_ident(n.nspname) || '.' || quote_ident(c.relname);

-- name: extend_campaign
-- The queue that a campaign fills: campaigns of different queues run beside each other. NULL, of an older version,
-- stands for every queue.
ALTER TABLE ragops.campaign
    ADD COLUMN IF NOT EXISTS queue text;

-- name: extend_fingerprint
-- The vectors of the canary texts, by which the spaces of two builds are compared.
ALTER TABLE ragops.fingerprint
    ADD COLUMN IF NOT EXISTS canary jsonb;

-- name: create_measured
-- What was measured of documents that are stored and not as they should be: text that is missing, tokens that the
-- model does not know. By filling, so that nothing here speaks of another filling's document.
CREATE TABLE IF NOT EXISTS ragops.measured (
    queue        text        NOT NULL,
    generation   bigint      NOT NULL,
    item         text        NOT NULL,
    location     text        NOT NULL,
    found        bigint,
    expected     bigint,
    unit         text,
    missing      jsonb,
    unknown      bigint,
    tokens       bigint,
    measured_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, generation, item)
);

-- name: create_tokens
-- How many tokens of a filling's documents the model knows, one row per fleet: two never wait for each other.
CREATE TABLE IF NOT EXISTS ragops.tokens (
    queue        text        NOT NULL,
    generation   bigint      NOT NULL,
    writer       text        NOT NULL,
    documents    bigint      NOT NULL,
    tokens       bigint      NOT NULL,
    unknown      bigint      NOT NULL,
    PRIMARY KEY (queue, generation, writer)
);

-- name: create_change
-- What an operator changed of a campaign when it was resumed.
CREATE TABLE IF NOT EXISTS ragops.change (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint      NOT NULL,
    setting      text        NOT NULL,
    before       jsonb,
    after        jsonb,
    changed_by   text        NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now()
);

-- name: create_seeding
-- By filling: the number under which the states of its files are kept, and what of the source was left out.
CREATE TABLE IF NOT EXISTS ragops.seeding (
    queue        text        NOT NULL,
    generation   bigint      NOT NULL,
    seeding      bigint      NOT NULL,
    left_out     jsonb,
    PRIMARY KEY (queue, generation)
);

-- name: create_file_state
-- Size and time of modification of the files that were queued, by a hash of their locations. With the location for a
-- file that was embedded in another state.
CREATE TABLE IF NOT EXISTS ragops.file_state (
    seeding      bigint      NOT NULL,
    key          bigint      NOT NULL,
    bytes        bigint      NOT NULL,
    modified_ns  bigint      NOT NULL,
    location     text
);

-- name: index_file_state
-- Finds the states of claimed items. Not unique: two locations may have the same hash.
CREATE INDEX IF NOT EXISTS file_state_key ON ragops.file_state (seeding, key);

-- name: index_changed_files
-- Finds the files that changed, of which there are few.
CREATE INDEX IF NOT EXISTS file_state_changed ON ragops.file_state (seeding) WHERE location IS NOT NULL;

-- name: create_work
-- Work items of rows that stay where they are: the queue of a playbook with `targets:`. A location is the number of
-- the target in the playbook and the row's key, `1:["42"]`.
CREATE TABLE IF NOT EXISTS ragops.work (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    location     text        NOT NULL,
    status       text        NOT NULL DEFAULT 'pending',
    attempts     smallint    NOT NULL DEFAULT 0,
    phase        smallint    NOT NULL DEFAULT 1,
    claim_id     uuid,
    claimed_by   text,
    lease_until  timestamptz,
    last_error   text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02);

-- name: index_work_pending
-- Finds the next items to claim.
CREATE INDEX IF NOT EXISTS work_pending ON ragops.work (phase, id) WHERE status = 'pending';

-- name: index_work_leases
-- Finds expired leases.
CREATE INDEX IF NOT EXISTS work_leases ON ragops.work (lease_until) WHERE status = 'processing';

-- name: index_work_claims
-- Finds the items of a claim.
CREATE INDEX IF NOT EXISTS work_claims ON ragops.work (claim_id) WHERE claim_id IS NOT NULL;

-- name: index_work_failed
-- Finds the failed items.
CREATE INDEX IF NOT EXISTS work_failed ON ragops.work (id) WHERE status = 'failed';

-- name: create_target
-- Vector columns that ragops has written where the rows are. The name is that at the last look: the oid finds a table
-- that was renamed.
CREATE TABLE IF NOT EXISTS ragops.target (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation     text        NOT NULL,
    relation_oid oid         NOT NULL,
    column_name  text        NOT NULL,
    key_columns  text[]      NOT NULL,
    UNIQUE (relation, column_name)
);

-- name: create_row_state
-- What a row's vector was made of: a hash of its text, and the vector space. Tells which vectors are stale.
CREATE TABLE IF NOT EXISTS ragops.row_state (
    target_id    bigint      NOT NULL,
    key          text        NOT NULL,
    text_hash    bytea       NOT NULL,
    fingerprint  text        NOT NULL,
    embedded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, key)
);

-- name: create_vector_archive
-- Archives of vectors that were replaced in place: tables `ragops.vectors_N (key, old, new_hash)`.
CREATE TABLE IF NOT EXISTS ragops.vector_archive (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id   bigint REFERENCES ragops.campaign,
    target_id     bigint      NOT NULL REFERENCES ragops.target,
    archive_table text        NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    restored_at   timestamptz
);

-- name: create_cutover
-- Second vector columns: how far each of them is on its way to take the first one's place.
CREATE TABLE IF NOT EXISTS ragops.cutover (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id   bigint REFERENCES ragops.campaign,
    target_id     bigint      NOT NULL REFERENCES ragops.target,
    old_column    text        NOT NULL,
    new_column    text        NOT NULL,
    state         text        NOT NULL DEFAULT 'filling'
                  CHECK (state IN ('filling', 'ready', 'cut_over', 'rolled_back', 'finished', 'dropped')),
    definition    jsonb       NOT NULL DEFAULT '{{}}',
    changed_at    timestamptz NOT NULL DEFAULT now()
);

-- name: create_captured
-- Keys of rows that the application wrote while a second column exists, noted by a trigger.
CREATE TABLE IF NOT EXISTS ragops.captured (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cutover_id   bigint      NOT NULL,
    key          text        NOT NULL,
    written_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: index_captured
-- Takes the noted keys of one column in their order.
CREATE INDEX IF NOT EXISTS captured_order ON ragops.captured (cutover_id, id);

-- name: add_captured_kept
-- Notes of rows that were written after a cutover stay: a rollback has to say that the old column lacks their vector.
ALTER TABLE ragops.captured ADD COLUMN IF NOT EXISTS is_kept boolean NOT NULL DEFAULT false;

-- name: extend_vector_archive
-- How far an undo has come with an archive: the last key, what became of the rows, and the first ones that were left.
ALTER TABLE ragops.vector_archive
    ADD COLUMN IF NOT EXISTS undo_id    bigint REFERENCES ragops.undo,
    ADD COLUMN IF NOT EXISTS undone_to  text,
    ADD COLUMN IF NOT EXISTS restored   bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS changed    bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS deleted    bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS left_rows  jsonb NOT NULL DEFAULT '[]';

-- name: allow_undoing
-- A campaign whose vectors are put back one part after the other is neither running nor undone.
ALTER TABLE ragops.campaign
    DROP CONSTRAINT IF EXISTS campaign_status_check,
    ADD CONSTRAINT campaign_status_check
        CHECK (status IN ('running', 'stopped', 'gate_failed', 'failed', 'done', 'abandoned', 'undoing', 'undone'));
