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
