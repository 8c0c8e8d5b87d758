"""Documents for a probe to compare with, questions to it, and embedders that misbehave."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from campaigns import execute
from starlette.applications import Starlette

from ragops.embedder.client import Embedder, Embeddings
from ragops.probe.app import COMPARE_PATH
from ragops.quality.vectors import normalize

TEXTS = ["drop the index", "the council voted the budget", "water", "a lazy dog by a river", "build the index"]
QUERY = "drop the vector index"
ZERO = "[" + ",".join(["0"] * 32) + "]"


def fill(dsn: str, embedder: Embedder) -> str:
    """Store a document for each of the texts; returns the DSN."""
    vectors = normalize(embedder.embed(TEXTS).vectors)
    for number, (text, vector) in enumerate(zip(TEXTS, vectors, strict=True), start=1):
        store(dsn, number, text, json.dumps(vector.tolist()))
    return dsn


def store(dsn: str, number: int, text: str, vector: str | None) -> None:
    shown = "NULL" if vector is None else f"'{vector}'"
    execute(
        dsn,
        "INSERT INTO documents (file_id, file_path, content, embedding)"
        f" VALUES ({number}, '{number}.txt', '{text}', {shown})",
    )


def heard_before_listening(process: subprocess.Popen[str]) -> str:
    """What a started probe says up to the line with its address."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "listening on" in line:
            return said
    pytest.fail(f"the probe ended: {said}")


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a started probe listens, as it says itself."""
    found = re.search(r"listening on (https?://\S+)\?query=TEXT", heard_before_listening(process))
    assert found is not None
    return found[1]


def get(app: Starlette, path: str = COMPARE_PATH, *, headers: Any = None, **parameters: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe", timeout=60) as client:
            return await client.get(path, params=parameters, headers=headers)

    return asyncio.run(ask())


class Broken(Embedder):
    """Gives zero vectors."""

    is_alive = True

    def __init__(self, real: Embedder) -> None:
        self.model = real.model

    def embed(self, texts: Any, *, suffix: str = "", tokens_per_batch: int | None = None) -> Embeddings:
        return Embeddings(np.zeros((len(texts), self.model.dimensions), np.float32), (1,) * len(texts))

    def close(self, *, timeout_s: float = 5.0) -> None: ...


class Slow(Broken):
    """Counts how many requests it has at once, and waits until it may answer."""

    def __init__(self, real: Embedder) -> None:
        super().__init__(real)
        self.real = real
        self.may_answer = threading.Event()
        self.entered = self.at_once = self.most = 0

    def embed(self, texts: Any, *, suffix: str = "", tokens_per_batch: int | None = None) -> Embeddings:
        self.entered += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        assert self.may_answer.wait(30)
        self.at_once -= 1
        return self.real.embed(texts, suffix=suffix)
