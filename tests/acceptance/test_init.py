"""`ragops init` on the tables that other programs make: what it recognises, writes and proves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import client_tables
import psycopg
import pytest
from workplace import Finished, Workplace, open_workplace

from ragops.playbook import parse_playbook
from ragops.playbook.model import Playbook


@pytest.fixture
def place(tmp_path: Path, dsn18: str, tiny_model: Path) -> Any:
    """A database without the five tables: only what a test makes is there to be found."""
    with psycopg.connect(dsn18, autocommit=True) as connection:
        connection.execute(
            "DROP TABLE documents, document_chunks, parsed_files, ingestion_metrics, files_queue CASCADE"
        )
        connection.execute("DROP SCHEMA ragops CASCADE")
    with open_workplace(tmp_path, dsn=dsn18, corpus=tmp_path, model=tiny_model, gate=10, index_after=20) as opened:
        # What a test does not name comes from no variable.
        del opened.variables["RAGOPS_MODEL"]
        yield opened


def init(place: Workplace, *options: str, campaign: str = "repair") -> Finished:
    return place.ragops("init", "--campaign", campaign, "-o", "p.yaml", "--json", *options)


def written(place: Workplace) -> Playbook:
    text = (place.folder / "p.yaml").read_text(encoding="utf-8")
    return parse_playbook(text, file="p.yaml", environment={})


KNOWN = {
    "langchain": (client_tables.LANGCHAIN, "langchain_pg_embedding", "{document}", "id"),
    "pgvectorstore": (client_tables.PGVECTORSTORE, "handbook", "{content}", "langchain_id"),
    "haystack": (client_tables.HAYSTACK, "haystack_documents", "{content}", "id"),
    "supabase": (client_tables.SUPABASE, "documents", "{content}", "id"),
    "pgai": (client_tables.PGAI, "blog_contents_embedding_store", "{chunk}", "embedding_uuid"),
    "open webui": (client_tables.OPEN_WEBUI, "document_chunk", "{text}", "id"),
    "spring ai": (client_tables.SPRING_AI, "vector_store", "{content}", "id"),
    "django": (client_tables.DJANGO, "library_article", "{body}", "id"),
    "mem0": (client_tables.MEM0, "memories", None, "id"),
}


@pytest.mark.parametrize("client", KNOWN)
def test_a_client_s_table_is_recognised_and_its_playbook_planned(
    client: str, place: Workplace, tiny_model: Path
) -> None:
    statements, table, text, key = KNOWN[client]
    place.execute(*statements)
    done = init(place, "--table", table, "--model", str(tiny_model), "--yes")
    assert done.code == 0, done.err + done.out
    found = written(place).targets[0]
    assert (found.table, found.text) == (f"public.{table}", text)
    assert client in done.json["client"].lower().replace("langchain (pgvectorstore)", "pgvectorstore")
    assert done.json["problems"] == [] and done.json["planned"]
    assert next(d["value"] for d in done.json["decisions"] if d["what"] == "key") == key
    assert all("scan against" in shown for shown in done.json["texts"])
