-- What the server's catalogs, statistics and settings contain. Columns of the statements that `catalog.py` reads
-- into facts are named as the fields of the facts.

-- name: server
-- The server and the database as the connected role sees them: one row.
-- The role may archive if it may create tables in the schema `ragops` or, where that is missing, the schema.
SELECT current_database() AS database,
       (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector_version,
       current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS is_read_only,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections_in_use,
       jsonb_build_object('statement_timeout', current_setting('statement_timeout')) AS settings,
       current_user::text AS role,
       coalesce((SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')
                   FROM pg_namespace WHERE nspname = 'ragops'),
                has_database_privilege(current_database(), 'CREATE')) AS may_archive,
       (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'vector') AS vector_schema,
       coalesce((SELECT has_schema_privilege(extnamespace, 'USAGE') FROM pg_extension WHERE extname = 'vector'),
                true) AS may_use_vector;

-- name: vector_types
-- The types of pgvector in this database, wherever the extension is installed: name, oid, oid of the array.
SELECT t.typname::text, t.oid::bigint, t.typarray::bigint
  FROM pg_extension e JOIN pg_type t ON t.typnamespace = e.extnamespace
 WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec', 'sparsevec');

-- name: vector_schema
-- The schema that pgvector is installed in; no row if it is not installed.
SELECT n.nspname::text, pg_catalog.pg_type_is_visible(t.oid)
  FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace
  JOIN pg_type t ON t.typnamespace = e.extnamespace AND t.typname = 'vector'
 WHERE e.extname = 'vector';

-- name: limits
-- The settings that limit an index build, in bytes and processes: one row.
-- NULL for a memory setting at its default, which does not reflect the machine.
SELECT pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       current_setting('max_parallel_maintenance_workers')::int AS max_parallel_maintenance_workers,
       current_setting('max_parallel_workers')::int AS max_parallel_workers,
       current_setting('max_worker_processes')::int AS max_worker_processes,
       (SELECT pg_size_bytes(current_setting(name)) FROM pg_settings
         WHERE name = 'shared_buffers' AND setting <> boot_val) AS shared_buffers,
       (SELECT pg_size_bytes(current_setting(name)) FROM pg_settings
         WHERE name = 'effective_cache_size' AND setting <> boot_val) AS effective_cache_size;

-- name: backend
-- The server process of this session, when it started (seconds since 1970) and how the server shares memory.
-- ragops compares process and start with this machine's, to find out whether the server runs here.
SELECT pg_backend_pid(),
       (SELECT extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid()),
       current_setting('dynamic_shared_memory_type');

-- name: find_relation
-- The oid and kind of what a name stands for; no row if there is none. A name with a schema is looked up directly,
-- because to_regclass() fails for a role without USAGE on that schema.
SELECT c.oid::bigint, c.relkind::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE CASE WHEN %(schema)s::text IS NULL THEN c.oid = to_regclass(%(quoted)s)
            ELSE n.nspname = %(schema)s AND c.relname = %(name)s END;

-- name: blocker
-- Who holds or awaits a lock that keeps readers of a table out, granted locks first; no row if nobody does.
-- Sizes and definitions of indexes take a lock themselves, so that they would wait for it.
WITH RECURSIVE part AS (
    SELECT %(oid)s::oid AS oid
     UNION
    SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid
), related AS (
    SELECT oid FROM part
     UNION ALL
    SELECT x.indexrelid FROM part JOIN pg_index x ON x.indrelid = part.oid
     UNION ALL
    SELECT c.reltoastrelid FROM part JOIN pg_class c ON c.oid = part.oid WHERE c.reltoastrelid <> 0
)
SELECT l.pid, a.application_name
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.relation IN (SELECT oid FROM related)
 ORDER BY l.granted DESC LIMIT 1;

-- name: table
-- One table or partitioned table with its size, that of its partitions included, and the role's privileges. The
-- rows are the planner's estimate, -1 if the table was never analyzed. A privilege on any column counts as one on
-- the table: which columns are needed depends on the playbook, and COPY checks each of them. pg_partition_tree()
-- has no row for a table that is not partitioned, and locks the partitions of one that is.
SELECT n.nspname, c.relname, c.relpersistence = 'u', c.reltuples::bigint,
       CASE WHEN %(may_lock)s
            THEN pg_total_relation_size(c.oid)
                 + coalesce((SELECT sum(pg_total_relation_size(p.relid))::bigint FROM pg_partition_tree(c.oid) p
                              WHERE p.relid <> c.oid), 0)
            ELSE c.relpages::bigint * current_setting('block_size')::bigint END,
       c.relkind = 'p',
       array_remove(ARRAY[
         CASE WHEN has_any_column_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
         CASE WHEN has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
         CASE WHEN has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
         CASE WHEN has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END,
         CASE WHEN has_table_privilege(c.oid, 'TRUNCATE') THEN 'TRUNCATE' END,
         CASE WHEN NOT row_security_active(c.oid) THEN 'COPY' END,
         CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN 'OWN' END,
         CASE WHEN has_schema_privilege(c.relnamespace, 'USAGE') THEN 'USAGE' END,
         CASE WHEN has_schema_privilege(c.relnamespace, 'CREATE') THEN 'CREATE' END
       ], NULL) AS privileges
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = %(oid)s;

-- name: count_rows
-- The number of rows of a table, by a full scan.
SELECT count(*) FROM {table};

-- name: table_bytes
-- The size of a table with TOAST and indexes, those of its partitions included.
SELECT pg_total_relation_size(%(oid)s::oid)
       + coalesce((SELECT sum(pg_total_relation_size(p.relid))::bigint FROM pg_partition_tree(%(oid)s::oid) p
                    WHERE p.relid <> %(oid)s::oid), 0);

-- name: partitions
-- The partitions of a table at every level; none for a table that is not partitioned.
SELECT n.nspname AS schema, c.relname AS name, c.oid::bigint AS oid, p.level AS depth
  FROM pg_partition_tree(CASE WHEN %(may_lock)s THEN %(oid)s::oid END) p JOIN pg_class c ON c.oid = p.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.level > 0 ORDER BY p.level, n.nspname, c.relname;

-- name: ragops_table
-- Whether the role may read one of ragops' tables; no row if it does not exist.
-- From pg_class, because to_regclass() fails for a role without USAGE on the schema.
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'ragops' AND c.relname = %(name)s;

-- name: is_ragops_current
-- Whether the schema `ragops` has the newest of its tables and columns.
SELECT count(DISTINCT c.relname) = 14
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE n.nspname = 'ragops' AND NOT a.attisdropped
   AND (c.relname, a.attname) IN (('undo', 'id'), ('source', 'generation'), ('lease', 'campaign_id'),
                                 ('measured', 'item'), ('tokens', 'writer'), ('change', 'campaign_id'),
                                 ('seeding', 'left_out'), ('file_state', 'location'),
                                 ('work', 'location'), ('target', 'relation_oid'), ('row_state', 'text_hash'),
                                 ('vector_archive', 'undone_to'), ('cutover', 'state'), ('captured', 'is_kept'));

-- name: is_available
-- Whether the server has the files of pgvector.
SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector');

-- name: columns
-- The columns of a table in their order. A domain may be one of another domain; the last has no base.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS is_nullable,
       a.atthasdef AS has_default, a.attidentity <> '' AS is_identity, a.attgenerated <> '' AS is_generated,
       coalesce((WITH RECURSIVE base (oid, modifier) AS (
            SELECT t.typbasetype, t.typtypmod FROM pg_type t WHERE t.oid = a.atttypid AND t.typtype = 'd'
            UNION ALL
            SELECT t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.oid AND t.typtype = 'd')
         SELECT format_type(b.oid, b.modifier) FROM base b JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
       ), '') AS base_type
  FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum;

-- name: next_value
-- The expression for a column's next value: nextval() of its identity's sequence, else its default.
SELECT CASE WHEN a.attidentity <> ''
            THEN format('nextval(%%L::regclass)', pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
            ELSE pg_get_expr(d.adbin, d.adrelid) END
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %(oid)s AND a.attname = %(column)s;

-- name: next_values
-- Values for new rows of a column; the default's expression is evaluated once per row, since it is volatile.
SELECT {next_value} FROM generate_series(1, {count});

-- name: referenced_by
-- The foreign keys of other tables that reference a table. Those of partitions are left out (conparentid): their
-- partitioned table's key stands for them.
SELECT c.conname AS name, n.nspname || '.' || r.relname AS "table",
       CASE c.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                          WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_delete,
       n.nspname AS schema,
       format('ALTER TABLE %%I.%%I DROP CONSTRAINT %%I', n.nspname, r.relname, c.conname) AS drop,
       format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, r.relname, c.conname,
              regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '') || ' NOT VALID') AS add
  FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE c.contype = 'f' AND c.confrelid = %(oid)s AND c.conrelid <> c.confrelid AND c.conparentid = 0
 ORDER BY 2, 1;

-- name: vector_indexes
-- The HNSW and IVFFlat indexes of a table and of its partitions by name, each with the index of the partitioned
-- table that it is attached to. The column is empty for an index on an expression (indkey 0); the last array has the
-- columns that its key reads (an expression's are found by what it depends on, without those of a predicate), and all
-- that it depends on. A statistics target below 0, or NULL from PostgreSQL 17 on, is the default. With a column or a
-- name also the indexes of other methods that depend on that column, or have that name; not those of constraints.
SELECT i.relname, n.nspname, tn.nspname || '.' || t.relname, am.amname, coalesce(a.attname, ''),
       CASE WHEN %(may_lock)s THEN pg_get_indexdef(i.oid) ELSE '' END, x.indisvalid,
       CASE WHEN %(may_lock)s THEN pg_relation_size(i.oid)
            ELSE i.relpages::bigint * current_setting('block_size')::bigint END,
       t.oid::bigint,
       jsonb_build_object(
         'tablespace', s.spcname, 'comment', obj_description(i.oid, 'pg_class'),
         'statistics', coalesce((SELECT jsonb_object_agg(c.attnum, c.attstattarget) FROM pg_attribute c
                                  WHERE c.attrelid = i.oid AND c.attstattarget >= 0), '{{}}'),
         'parent', (SELECT pn.nspname || '.' || p.relname FROM pg_inherits h
                      JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
                     WHERE h.inhrelid = i.oid)),
       CASE WHEN a.attname IS NOT NULL THEN ARRAY[a.attname::text]
            ELSE ARRAY(SELECT c.attname::text FROM pg_attribute c
                        WHERE c.attrelid = x.indrelid
                          AND c.attnum IN (SELECT d.refobjsubid FROM pg_depend d
                                            WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
                                              AND d.refclassid = 'pg_class'::regclass
                                              AND d.refobjid = x.indrelid AND d.refobjsubid > 0)
                          AND (x.indpred IS NULL OR NOT %(may_lock)s
                               OR position(quote_ident(c.attname) IN pg_get_expr(x.indexprs, x.indrelid)) > 0)
                        ORDER BY c.attnum) END,
       ARRAY(SELECT DISTINCT c.attname::text FROM pg_depend d
               JOIN pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
              WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = x.indrelid AND d.refobjsubid > 0)
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_namespace n ON n.oid = i.relnamespace
  JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace
  LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
 WHERE x.indrelid IN (SELECT %(oid)s::oid UNION ALL
                       SELECT p.relid FROM pg_partition_tree(CASE WHEN %(may_lock)s THEN %(oid)s::oid END) p
                        WHERE p.level > 0)
   AND (am.amname IN ('hnsw', 'ivfflat')
        OR ((i.relname = %(name)s::text OR EXISTS (
              SELECT FROM pg_depend d
                JOIN pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
               WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND c.attname = ANY(%(columns)s::text[])))
            AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid)))
 ORDER BY n.nspname, i.relname;

-- name: name_of
-- The schema and name of a table by its oid; no row if it is gone.
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = %(oid)s::oid AND c.relkind IN ('r', 'p');

-- name: triggers
-- The users' triggers of a table and of its partitions that are not disabled, with their state.
SELECT n.nspname AS schema, c.relname AS "table", t.tgname AS name, t.tgenabled::text AS state
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
   AND t.tgrelid IN (SELECT %(oid)s::oid UNION ALL SELECT p.relid FROM pg_partition_tree(%(oid)s::oid) p
                      WHERE p.level > 0)
 ORDER BY 1, 2, 3;

-- name: has_rows
-- Whether a table holds any row.
SELECT EXISTS (SELECT 1 FROM {table});

-- name: partial_indexes
-- The valid indexes of a table that have a predicate: key columns in order (NULL: an expression), predicate.
SELECT ARRAY(SELECT a.attname::text
               FROM unnest(x.indkey[0:x.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
               LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
              ORDER BY k.place),
       pg_get_expr(x.indpred, x.indrelid)
  FROM pg_index x WHERE x.indrelid = %(oid)s AND x.indisvalid AND x.indpred IS NOT NULL;

-- name: storage_settings
-- The names of the storage parameters that a table has; NULL for a partitioned table, which cannot have any.
SELECT CASE WHEN c.relkind = 'r'
            THEN ARRAY(SELECT split_part(o, '=', 1) FROM unnest(c.reloptions) AS o) END
  FROM pg_class c WHERE c.oid = %(oid)s;

-- name: blockers
-- The other sessions that hold a lock of any kind on one of the tables, with their transaction's age in seconds.
-- A role without pg_read_all_stats sees neither state nor age nor query of another role's session (NULL).
SELECT DISTINCT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int,
       CASE WHEN a.state IS NOT NULL THEN left(a.query, 80) END
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.relation = ANY(%(oids)s::oid[]) AND l.granted AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY a.pid;

-- name: sessions
-- Some sessions, as `blockers` shows them; a prepared transaction, which has no session, has the pid 0.
SELECT DISTINCT given.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int,
       CASE WHEN a.state IS NOT NULL THEN left(a.query, 80) END
  FROM unnest(%(pids)s::int[]) AS given (pid) LEFT JOIN pg_stat_activity a ON a.pid = given.pid
 WHERE given.pid = 0 OR a.pid IS NOT NULL
 ORDER BY given.pid;

-- name: lock_waits
-- The sessions of ragops that have waited for a lock for some seconds, with those that they wait for. By application
-- and role, as behind a pooler nobody knows the server processes of its own connections.
SELECT a.pid, extract(epoch FROM clock_timestamp() - a.query_start)::int, pg_blocking_pids(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.usename = current_user AND a.wait_event_type = 'Lock'
   AND starts_with(a.application_name, 'ragops ')
   AND a.query_start < clock_timestamp() - make_interval(secs => %(min_s)s)
 ORDER BY a.pid;

-- name: row_lockers
-- The other sessions that may hold locks on rows of a table: in a transaction for some seconds, or for a time that
-- this role may not see. 0 is a prepared transaction.
SELECT DISTINCT coalesce(l.pid, 0) AS pid
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.relation = %(oid)s::oid AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND (a.xact_start IS NULL OR a.xact_start < clock_timestamp() - make_interval(secs => %(min_s)s))
 ORDER BY 1;

-- name: ragops_lockers
-- Who keeps readers out of one of ragops' own tables.
SELECT DISTINCT coalesce(l.pid, 0) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'ragops' AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: running_builds
-- The other sessions that build an index on a table, or wait for the table to begin. The lock on the table decides
-- where a role without pg_read_all_stats sees no more of a build than that it runs (NULL), and for a partition whose
-- index is built with that of its table.
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
       extract(epoch FROM clock_timestamp() - a.query_start)::int, i.relname, p.phase,
       coalesce(p.tuples_done, 0), coalesce(p.tuples_total, 0), coalesce(p.blocks_done, 0),
       coalesce(p.blocks_total, 0), pg_blocking_pids(a.pid)
  FROM pg_stat_activity a
  LEFT JOIN pg_stat_progress_create_index p ON p.pid = a.pid
  LEFT JOIN pg_class i ON i.oid = p.index_relid
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
   AND (p.pid IS NOT NULL OR (a.state = 'active' AND a.query ~* '^\s*create\s+(unique\s+)?index\s'))
   AND (p.relid = %(oid)s::oid OR EXISTS (
         SELECT FROM pg_locks l
          WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation = %(oid)s::oid
            AND l.database = a.datid AND l.mode IN ('ShareLock', 'ShareUpdateExclusiveLock')))
 ORDER BY a.pid;

-- name: index_progress
-- How far the index build on a table is; no row if none runs, one of them if several run at once.
SELECT p.phase, p.tuples_done, p.tuples_total, p.blocks_done, p.blocks_total
  FROM pg_stat_progress_create_index p WHERE p.relid = %(oid)s ORDER BY p.pid LIMIT 1;

-- name: docs_per_s
-- Documents per second of one worker, over all recorded batches; NULL if there are none.
SELECT nullif(sum({ingestion_metrics_documents})::float8, 0) * 1000
       / nullif(sum({ingestion_metrics_milliseconds})::float8, 0)
  FROM {ingestion_metrics} WHERE {ingestion_metrics_milliseconds} > 0;

-- name: index_rows_per_s
-- Rows per second of the last index build that the ledger records; no row if there is none.
SELECT (effect->>'rows')::float8 / nullif((effect->>'seconds')::float8, 0) FROM ragops.step
 WHERE verb = 'rebuild_indexes' AND status = 'done' AND (effect->>'rows')::float8 > 0
 ORDER BY finished_at DESC LIMIT 1;

-- name: oldest_vacuum_blocker
-- The transaction or slot that holds vacuum back furthest, if it is older than `min_age_s`; no row if none is.
-- Three things pin the horizon: sessions, prepared transactions, replication slots
-- (https://www.postgresql.org/docs/current/routine-vacuuming.html). Where the age is unknown, the number of
-- transactions since decides: a slot has no age, and a role without pg_read_all_stats sees pid, application, user
-- and transaction ids of other roles' sessions, but not their start, state and query.
-- Sessions of other databases pin nothing here. A walsender has no database; its standby's feedback counts.
-- Vacuum ignores its own workers.
WITH blocker AS (
    SELECT 'session' AS kind, coalesce(a.application_name, '') AS name, a.pid, a.usename::text AS "user",
           extract(epoch FROM clock_timestamp() - a.xact_start)::int AS age_s,
           greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
           a.state, left(a.query, 80) AS query
      FROM pg_stat_activity a
     WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
       AND (a.datname = current_database() OR a.datname IS NULL)
       AND a.pid <> pg_backend_pid() AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
    UNION ALL
    SELECT 'prepared transaction', p.gid, NULL, p.owner::text,
           extract(epoch FROM clock_timestamp() - p.prepared)::int, age(p.transaction), NULL, NULL
      FROM pg_prepared_xacts p WHERE p.database = current_database()
    UNION ALL
    SELECT 'replication slot', s.slot_name::text, s.active_pid, NULL, NULL, age(s.xmin),
           CASE WHEN s.active THEN 'active' ELSE 'inactive' END, NULL
      FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
)
SELECT kind, name, pid, "user", age_s, transactions, state,
       CASE WHEN state IS NOT NULL THEN query END AS query
  FROM blocker
 WHERE age_s >= %(min_age_s)s OR (age_s IS NULL AND transactions >= %(many)s)
 ORDER BY transactions DESC, age_s DESC NULLS LAST LIMIT 1;

-- name: session_states
-- What the server does for some of its sessions, and since when.
SELECT a.pid, a.application_name,
       coalesce(a.state, 'unknown') || ' since ' || to_char(a.state_change, 'HH24:MI:SS.MS')
       || CASE WHEN a.state = 'active' AND a.wait_event = 'ClientRead' THEN ', waiting for the client' ELSE '' END
  FROM pg_stat_activity a
 WHERE a.pid = ANY(%(pids)s) OR a.application_name = ANY(%(names)s);

-- name: end_session
-- Ends a session that its client has lost: the server, or a pooler, may not know it, and keep its locks for hours.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
 WHERE a.application_name = %(name)s AND a.usename = current_user AND a.pid <> pg_backend_pid();
