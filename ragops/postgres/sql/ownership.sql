-- Who owns what ragops reads its instructions from.

-- name: foreign_owners
-- The schema `ragops` and what is in it, as far as a stranger owns it: not the role that is connected, no role
-- that it is a member of, not the owner of the database and no superuser. A superuser passes every test of
-- pg_has_role, so memberships are followed here.
WITH RECURSIVE trusted (role) AS (
    SELECT oid FROM pg_roles WHERE rolname = current_user OR rolsuper OR rolname = 'pg_database_owner'
    UNION
    SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN trusted t ON m.member = t.role
     WHERE t.role NOT IN (SELECT oid FROM pg_roles WHERE rolsuper AND rolname <> current_user)
), owned (kind, name, role) AS (
    SELECT 'SCHEMA', quote_ident(nspname), nspowner FROM pg_namespace WHERE nspname = 'ragops'
    UNION ALL
    SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                        WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
           format('%I.%I', 'ragops', relname), relowner
      FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'ragops')
                      AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
)
SELECT kind, name, pg_get_userbyid(role), quote_ident(current_user) FROM owned
 WHERE role NOT IN (SELECT role FROM trusted)
 ORDER BY kind <> 'SCHEMA', name;
