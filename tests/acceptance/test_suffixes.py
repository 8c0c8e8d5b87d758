"""A campaign whose texts end with special tokens: one space in embedding, validation, search and the plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import write_tiny_decoder
from workplace import Workplace

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.quality.drift import cosine_distances

EOS = "<|endoftext|>"


@pytest.mark.slow
def test_every_part_of_a_campaign_ends_its_texts_alike(place: Workplace, tmp_path: Path) -> None:
    for number, file in enumerate(sorted(Path(place.variables["RAGOPS_CORPUS"]).rglob("*.txt"))):
        if number >= 12:
            file.unlink()
    bare = write_tiny_decoder(tmp_path / "bare.gguf", pooling="last", eos=EOS, n_ctx=64)
    ended = write_tiny_decoder(tmp_path / "ended.gguf", pooling="last", eos=EOS, add_eos=True, n_ctx=64)
    suffixes = {"RAGOPS_MODEL": str(bare), "RAGOPS_DOCUMENT_SUFFIX": EOS, "RAGOPS_QUERY_SUFFIX": EOS}
    gates = {"RAGOPS_VALIDATE_AFTER": "4", "RAGOPS_INDEX_AFTER": "6"}

    plan = place.ragops("reset", "--dry-run", "--json", RAGOPS_MODEL=str(bare), **gates)
    assert plan.code == 0, plan.err
    first = plan.json["steps"][0]
    assert f'model.document_suffix: "{EOS}"' in " ".join(first["notes"])

    done = place.reset(**suffixes, **gates)
    assert (done.code, done.json["status"]) == (0, "done"), done.err
    # The same vectors as of a file whose tokenizer adds the token by itself, and no chunk over the limit.
    rows = place.rows("SELECT content, embedding::text FROM document_chunks")
    with Embedder(EmbedderConfig(ended)) as embedder:
        again = embedder.embed([content for content, _ in rows])
        query = embedder.embed(["water fire"]).vectors
        other = embedder.embed_tokens([ids[:-1] for ids in embedder.tokenise(["water fire"])]).vectors
    stored = np.array([json.loads(vector) for _, vector in rows], dtype=np.float32)
    assert cosine_distances(stored, again.vectors).max() < 1e-3
    assert max(again.tokens) <= 64 and len(rows) > 12

    found = place.ragops("search", "water fire", "--json", **suffixes)
    assert found.code == 0, found.err
    nearest = found.json["exact"][0]
    vector = json.loads(place.value(f"SELECT embedding::text FROM documents WHERE id = '{nearest['id']}'"))
    right, wrong = (cosine_distances(q, np.array([vector], np.float32))[0] for q in (query, other))
    assert nearest["distance"] == pytest.approx(right, abs=1e-3)
    assert abs(right - wrong) > 1e-2

    # Without the suffix it is another space, which a sample shows, and a second fleet may not join.
    assert place.ragops("validate", "--json", RAGOPS_MODEL=str(bare)).code == 3
