"""A real OpenAI-compatible server, `python -m llama_cpp.server`, against ragops' own embedder."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from campaigns import make_playbook
from conftest import wait_for

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import ReferenceFailed
from ragops.fingerprint.against import capture_own, compare_with
from ragops.playbook.model import OpenAIReference, Reference
from ragops.quality.drift import cosine_distances
from ragops.references.openai import OpenAIEndpoint

KEY = "a-key-for-this-test"
TEXTS = [
    "drop the index",
    "the council voted the budget for the school roof",
    "water",
    "Is it cold, or warm?",
    "the quick brown fox jumps over the lazy dog, twice",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Zürich 日本 \ud800",
    "one two three four five",
    "load the model and embed each row of the table",
    "red green blue",
]


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address, with a key asked for."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    arguments = ["--model", str(tiny_model), "--embedding", "true", "--n_threads", "1", "--api_key", KEY]
    command = [sys.executable, "-m", "llama_cpp.server", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    found = f"http://127.0.0.1:{port}/v1"

    def answers() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            return httpx.get(f"{found}/models", trust_env=False, timeout=5.0).status_code in (200, 401)
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, timeout_s=120, what="an answer of llama_cpp.server")
        yield found
    finally:
        process.kill()
        process.wait(30)


def test_its_vectors_are_those_of_the_embedder(url: str, tiny_model: Path) -> None:
    with OpenAIEndpoint(OpenAIReference(url=url), api_key=KEY, batch=4) as endpoint:
        there = endpoint.embed(TEXTS)
        description = endpoint.describe()
    with Embedder(EmbedderConfig(tiny_model)) as embedder:
        here = embedder.embed(TEXTS).vectors
    assert there.shape == here.shape == (len(TEXTS), 32)
    assert cosine_distances(there, here).max() <= 1e-3
    # Another order would show: no two of the texts are that near.
    apart = cosine_distances(there, np.roll(here, 1, axis=0))
    assert apart.min() > 1e-2
    assert description.models is not None
    assert [model["id"] for model in description.models] == [str(tiny_model)]


SPACES = [
    ({}, "equivalent", None),
    ({"dimensions": 16}, "equivalent", None),
    ({"pooling": "cls"}, "divergent", "with mean pooling the vectors agree"),
    ({"document_prefix": "passage: "}, "divergent", "with the prefix '' the vectors agree"),
]


@pytest.mark.parametrize(("changes", "verdict", "cause"), SPACES)
def test_a_space_is_measured_against_the_server_and_a_divergence_explained(
    url: str,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    verdict: str,
    cause: str | None,
) -> None:
    monkeypatch.setenv("BACKEND_KEY", KEY)
    playbook = make_playbook(model=tiny_model).with_changes(model=changes)
    reference = Reference(openai=OpenAIReference(url=url, api_key_env="BACKEND_KEY"))
    mine = capture_own(playbook)
    if "document_prefix" in changes:
        # The server gets the texts as they are; a prefix that only this side knows is the difference.
        plain = capture_own(make_playbook(model=tiny_model))
        mine = replace(mine, document={**mine.document, "prefixes": plain.document["prefixes"]})
    comparison = compare_with(playbook, reference, mine)
    assert comparison.verdict in ("identical", verdict)
    assert (comparison.findings[0].message if cause else None) == cause


def test_a_wrong_key_is_refused(url: str) -> None:
    with OpenAIEndpoint(OpenAIReference(url=url), api_key="wrong-key") as endpoint:
        with pytest.raises(ReferenceFailed, match="denied access") as caught:
            endpoint.embed(["water"])
        assert "wrong-key" not in str(caught.value.as_dict())
        assert endpoint.describe().models is None


def test_an_address_without_v1(url: str) -> None:
    settings = OpenAIReference(url=url.removesuffix("/v1"))
    with OpenAIEndpoint(settings, api_key=KEY) as endpoint, pytest.raises(ReferenceFailed) as caught:
        endpoint.embed(["water"])
    assert caught.value.status == 404
    assert caught.value.hint is not None
    assert "/v1" in caught.value.hint
