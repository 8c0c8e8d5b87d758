-- The table of the demo's application, whose rows stay: `ragops demo --story reembed`.

-- name: is_foreign
-- Whether a table of that name is there that no demo has made.
SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'public' AND c.relname = 'demo_articles'
                  AND obj_description(c.oid, 'pg_class') IS DISTINCT FROM 'made by ragops demo');

-- name: drop_table
-- Removes the table of an earlier story.
DROP TABLE IF EXISTS public.demo_articles;

-- name: create_table
-- The table of articles, each with its vector.
CREATE TABLE public.demo_articles (id bigint PRIMARY KEY, content text NOT NULL, embedding {ext}vector({dimensions}));

-- name: comment_table
-- Marks the table as the demo's own.
COMMENT ON TABLE public.demo_articles IS 'made by ragops demo';

-- name: insert
-- Stores an article with the vector of the old space.
INSERT INTO public.demo_articles VALUES (%(id)s, %(content)s, %(vector)s);

-- name: create_index
-- The index that the application searches.
CREATE INDEX demo_articles_embedding ON public.demo_articles USING hnsw (embedding {ext}vector_cosine_ops);

-- name: forget_captured
-- Forgets what an earlier story noted of a table that is gone.
DELETE FROM ragops.captured WHERE cutover_id IN (
       SELECT c.id FROM ragops.cutover c JOIN ragops.target t ON t.id = c.target_id
        WHERE t.relation = 'public.demo_articles');

-- name: forget_cutovers
-- Forgets how far an earlier story had come.
DELETE FROM ragops.cutover c USING ragops.target t WHERE t.id = c.target_id AND t.relation = 'public.demo_articles';

-- name: forget_rows
-- Forgets what an earlier story embedded.
DELETE FROM ragops.row_state s USING ragops.target t WHERE t.id = s.target_id AND t.relation = 'public.demo_articles';

-- name: nearest
-- What the application asks.
SELECT id FROM public.demo_articles ORDER BY embedding {cosine} %(vector)s::{ext}vector LIMIT 10;
