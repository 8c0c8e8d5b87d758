"""What the children of a whole campaign inherit: none of the user's secrets, however they are named."""

from __future__ import annotations

import json
from pathlib import Path

from child_spy import ChildSpy
from workplace import Workplace

CANARY = "c4n4ry-s3cr3t"
SECRETS = {
    "PGPASSWORD": CANARY,
    "OPENAI_API_KEY": CANARY,
    "MISTRAL_KEY": CANARY,
    "VAULT_TOKEN": CANARY,
    "LLAMA_ARG_API_KEY": CANARY,
    "PROD_DSN": f"host=db user=app password={CANARY}",
    "OTHER": f"postgresql+psycopg://u:{CANARY}@h/d",
    "CUDA_NOTE": f"host=db password = {CANARY}",
    "NO_NAME_FOR_IT": CANARY,
}


def test_no_child_of_a_campaign_inherits_a_secret(place: Workplace, tmp_path: Path) -> None:
    corpus = tmp_path / "pages"
    corpus.mkdir()
    for number in range(2):
        (corpus / f"page{number}.html").write_text(f"<p>Page {number} on indexes</p>", encoding="utf-8")
    spy = ChildSpy.at(tmp_path / "spy")
    done = place.reset(**SECRETS, **spy.variables, RAGOPS_CORPUS=str(corpus), OMP_NUM_THREADS="1")
    assert done.code == 0, done.err
    parsers, embedders = spy.seen("parse_child.py"), spy.seen("embedder/child.py")
    assert len(parsers) == 2
    assert len(embedders) >= 2
    for child in parsers + embedders:
        assert CANARY not in child.command + json.dumps(child.environment)
        assert child.environment["PATH"]
    assert all("OMP_NUM_THREADS" in child.environment for child in embedders)
    assert not any("OMP_NUM_THREADS" in child.environment for child in parsers)
    (controller,) = spy.seen("-m ragops")
    assert controller.environment["PGPASSWORD"] == CANARY  # the spy does see what is there
    assert CANARY not in done.out + done.err
