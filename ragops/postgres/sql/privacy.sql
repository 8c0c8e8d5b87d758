-- Who else may read what ragops keeps.

-- name: grantees
-- Everyone but the owner who has a privilege on a relation of the schema `ragops`; the empty text is PUBLIC.
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END
  FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.relnamespace = 'ragops'::regnamespace AND c.relname = %(name)s AND a.grantee <> c.relowner
 ORDER BY 1;

-- name: schema_grantees
-- The same for the schema itself.
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END
  FROM pg_namespace n, aclexplode(n.nspacl) a
 WHERE n.nspname = 'ragops' AND a.grantee <> n.nspowner
 ORDER BY 1;

-- name: relations
-- The tables and sequences of the schema `ragops`.
SELECT relname FROM pg_class WHERE relnamespace = 'ragops'::regnamespace AND relkind IN ('r', 'S') ORDER BY 1;

-- name: has_row_security
-- Whether a table hides rows from some roles.
SELECT relrowsecurity FROM pg_class WHERE oid = %(oid)s;
