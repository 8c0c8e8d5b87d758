"""Validation cuts documents whose chunks are not stored as embedding cut them, whatever kind of text they are."""

from __future__ import annotations

import re
from pathlib import Path

from campaigns import open_session, single
from workplace import Workplace

from ragops.campaign.measure import measure_stored
from ragops.campaign.steps.validate import validate
from ragops.playbook.loading import parse_playbook

REPOSITORY = Path(__file__).parents[2]
HOW_TO = REPOSITORY / "docs" / "how-to" / "own-database.md"
TABLES = """
CREATE SCHEMA kb;
CREATE TABLE kb.articles (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), path text, body text, vec vector(32));
CREATE TABLE kb.queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, file_path text, status text);
"""


def checks(place: Workplace, text: str) -> dict[str, tuple[str, str]]:
    """Status and measurement of each check of `ragops validate` with a playbook."""
    book = parse_playbook(text, file="our.yaml", environment=place.variables)
    with open_session(place.dsn, book) as session:
        return {check.id: (check.status, check.measured) for check in validate(single(session)).checks}


def test_the_how_to_s_playbook_passes_for_markdown_without_stored_chunks(place: Workplace) -> None:
    corpus = place.folder / "markdown"
    corpus.mkdir()
    for file in sorted((REPOSITORY / "docs" / "how-to").glob("*.md")):
        (corpus / file.name).write_text(file.read_text(encoding="utf-8")[:2500], encoding="utf-8")
    (corpus / "plain.txt").write_text("A line of plain text.\n\n# no heading\n" * 60, encoding="utf-8")
    block = re.search(r"```yaml\n(version: 1\n.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    text = block[1].replace("/srv/corpus", corpus.as_posix())
    (place.folder / "our.yaml").write_text(text, encoding="utf-8")
    place.execute(TABLES)
    place.variables["RAGOPS_PLAYBOOK"] = "our.yaml"
    for arguments in (("db", "init"), ("reset", "--yes")):
        done = place.ragops(*arguments)
        assert done.code == 0, done.err
    with open_session(place.dsn, parse_playbook(text, file="our.yaml", environment=place.variables)) as session:
        agreement = session.with_embedder(lambda embedder: measure_stored(session, embedder))
    assert (agreement.disagreeing, agreement.changed) == (0, ())

    # Where the path is not stored, either kind is tried.
    assert checks(place, text.replace("file_path: path", "file_path: null"))["stored_vectors_agree"][0] == "pass"

    # Other settings are named: what is stored is compared as it was cut.
    found = checks(place, text.replace("source:\n", "chunking: {max_tokens: 64}\nsource:\n", 1))
    assert found["stored_vectors_agree"][0] == "pass"
    assert found["cutting"] == ("info", "stored texts were cut with max_tokens 128, now 64")

    # Another prefix is another vector space: it fails, by its name and not as drift.
    found = checks(place, text.replace("  pooling: mean\n", '  pooling: mean\n  document_prefix: "passage: "\n'))
    assert found["stored_vectors_agree"][0] == "pass"
    assert found["document_prefix"] == ("fail", "stored texts were embedded with ''")
