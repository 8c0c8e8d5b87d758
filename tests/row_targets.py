"""Tables of an application whose rows stay, with what makes them hard: composite keys, quoted names, halfvec."""

from __future__ import annotations

from pathlib import Path

from workplace import Workplace

from ragops.playbook import Playbook, parse_playbook

DDL = (
    "CREATE SCHEMA kb",
    'CREATE SCHEMA "Knowledge Base"',
    """CREATE TABLE kb.articles (tenant_id int, id date, title text NOT NULL, body text, deleted_at timestamptz,
       embedding vector(32), PRIMARY KEY (tenant_id, id))""",
    """CREATE TABLE "Knowledge Base"."Doc Store" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "Content" text,
       "Embedding %" halfvec(32))""",
    """INSERT INTO kb.articles (tenant_id, id, title, body, deleted_at)
       SELECT n % 3, date '2026-01-01' + n, 'title ' || n,
              CASE WHEN n % 10 <> 0 THEN 'body of row ' || n || ' query table lock' END,
              CASE WHEN n > 40 THEN now() END FROM generate_series(1, 44) n""",
    """INSERT INTO "Knowledge Base"."Doc Store" ("Id", "Content")
       SELECT md5(n::text)::uuid, CASE WHEN n > 2 THEN 'sort hash join ' || n END FROM generate_series(1, 22) n""",
)
TARGETS = r"""targets:
  - table: kb.articles
    text: "{title}\n\n{body}"
    where: deleted_at IS NULL
  - table: '"Knowledge Base"."Doc Store"'
    text: "{Content}"
    embedding: "Embedding %"
"""
STEPS = """steps:
  - step: select_rows
    rows: [all]
  - step: embed
  - step: validate
"""


def text(model: Path | str = "x.gguf", *, targets: str = TARGETS, steps: str = STEPS) -> str:
    """Return a playbook of two targets: 40 rows of `kb.articles` have a text, and 20 of the quoted table."""
    return f"version: 1\nname: rows\nmodel: {{file: {model}}}\n{targets}{steps}"


def playbook(*, targets: str = TARGETS, steps: str = STEPS, model: Path | str = "x.gguf") -> Playbook:
    return parse_playbook(text(model, targets=targets, steps=steps), file="rows.yaml", environment={})


def install(place: Workplace, model: Path, *, targets: str = TARGETS, steps: str = STEPS) -> None:
    """Make the tables and write `rows.yaml` into the place's folder."""
    place.execute(*DDL)
    (place.folder / "rows.yaml").write_text(text(model, targets=targets, steps=steps), encoding="utf-8")
