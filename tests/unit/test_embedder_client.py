"""The client against stub children that die, hang and send garbage on command."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ragops.embedder.child_files import MAGIC
from ragops.embedder.client import Embedder, EmbedderConfig, sha256_of
from ragops.embedder.errors import TextTooLong
from ragops.errors import EmbedderDied, EmbedderError, EmbedderTimeout, ModelUnusable

STUB = """
import json, os, signal, struct, sys, time

def read():
    size = sys.stdin.buffer.read(4)
    if len(size) < 4:
        sys.exit(0)
    return json.loads(sys.stdin.buffer.read(int.from_bytes(size, "big")))

def write(header, payload=b""):
    if payload:
        header["payload"] = len(payload)
    body = json.dumps(header).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body + payload)
    sys.stdout.buffer.flush()

def obey(order):
    if order == "hang":
        time.sleep(600)
    elif order == "garbage":
        sys.stdout.buffer.write(b"Hello from a library that prints")
        sys.stdout.buffer.flush()
        time.sleep(600)
    elif order == "exit":
        sys.stderr.write("about to give up\\n")
        sys.exit(7)
    elif order.startswith("signal"):
        os.kill(os.getpid(), int(order.split()[1]))
    elif order == "environment":
        write({"error": {"kind": "environment", "message": " ".join(sorted(os.environ))}})
        return True
    elif order == "too long":
        write({"error": {"kind": "too_long", "message": "m", "index": 3, "tokens": 600, "allowed": 512}})
        return True
    elif order == "odd error":
        write({"error": ["no", "object"]})
        return True
    elif order == "short":
        write({"tokens": [1]}, b"1234")
        return True
    return False

SYSTEM_INFO = "CUDA : ARCHS = 890 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX2 = 1 | "
config = read()
if config["pooling"].startswith("start:"):
    kind = config["pooling"][6:]
    if obey(kind):
        sys.exit(1)
    write({"error": {"kind": kind, "message": "the child's reason", "pooling": "rank"}})
    sys.exit(1)
build = dict(python="p", python_version="3", package_version="0", system_info=SYSTEM_INFO, platform="")
model = dict(path=config["model"], file_bytes=4, architecture="bert", name="stub", description="",
             dimensions=2, n_ctx_train=512, n_vocab=1, n_params=1, pooling="mean", is_decoder=False,
             max_tokens=512, requested={}, effective={})
write({"hello": 1, "build": build, "model": model})
while True:
    request = read()
    texts = request["texts"]
    if texts and obey(texts[0]):
        continue
    counts = [len(text) for text in texts]
    if request["request"] == "tokens":
        write({"tokens": counts})
    else:
        vectors = b"".join(struct.pack("<2f", index, count) for index, count in enumerate(counts))
        write({"tokens": counts, "rows": len(texts), "dimensions": 2}, vectors)
"""

Start = Callable[..., Embedder]
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals as exit statuses are POSIX")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB, encoding="utf-8")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")

    def starter(pooling: str = "auto", deadline_s: float = 30.0, start_deadline_s: float = 30.0) -> Embedder:
        config = EmbedderConfig(model, pooling=pooling, deadline_s=deadline_s, start_deadline_s=start_deadline_s)
        return Embedder(config, command=[sys.executable, str(stub)])

    return starter


def test_answers_arrive_in_order(start: Start) -> None:
    with start() as embedder:
        assert embedder.count_tokens(["a", "bbb", ""]) == [1, 3, 0]
        embeddings = embedder.embed(["a", "bbb"])
        assert embeddings.tokens == (1, 3)
        np.testing.assert_array_equal(embeddings.vectors, np.array([[0, 1], [1, 3]], dtype=np.float32))
        assert embedder.embed([]).vectors.shape == (0, 2)
        assert embedder.model.name == "stub"
        assert embedder.build.features == {"CUDA.ARCHS": "890", "CUDA.USE_GRAPHS": "1", "SSE3": "1", "AVX2": "1"}
        assert embedder.is_alive
        assert embedder.pid > 0
    assert not embedder.is_alive
    with pytest.raises(EmbedderDied, match="closed"):
        embedder.embed(["a"])


@posix_only
@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [(4, "SIGILL", "instructions that this CPU lacks"), (9, "SIGKILL", "memory"), (11, "SIGSEGV", "damaged")],
)
def test_a_death_by_signal_is_named(start: Start, number: int, name: str, hint: str) -> None:
    with start() as embedder, pytest.raises(EmbedderDied) as caught:
        embedder.embed([f"signal {number}"])
    assert caught.value.what == f"the embedder process was killed by {name}"
    assert hint in (caught.value.hint or "")
    assert not isinstance(caught.value, EmbedderTimeout)


def test_a_plain_exit_shows_status_and_stderr(start: Start) -> None:
    with start() as embedder, pytest.raises(EmbedderDied) as caught:
        embedder.embed(["exit"])
    assert caught.value.what == "the embedder process ended with exit status 7"
    assert "about to give up" in (caught.value.actual or "")


def test_a_request_has_a_deadline(start: Start) -> None:
    begun = time.monotonic()
    with start(deadline_s=0.3) as embedder, pytest.raises(EmbedderTimeout) as caught:
        embedder.embed(["hang"])
    assert caught.value.expected == "a response within 0.3 s"
    assert time.monotonic() - begun < 10
    assert not embedder.is_alive


def test_the_start_has_a_deadline(start: Start) -> None:
    with pytest.raises(EmbedderTimeout, match="did not respond in time"):
        start(pooling="start:hang", start_deadline_s=0.3)


@pytest.mark.parametrize("method", ["kill", "close"])
def test_it_can_be_ended_from_another_thread(start: Start, method: str) -> None:
    embedder = start()
    timer = threading.Timer(0.3, getattr(embedder, method))
    timer.start()
    with pytest.raises(EmbedderDied, match="stopped"):
        embedder.embed(["hang"])
    timer.join(10)
    embedder.close()
    embedder.close()
    assert not embedder.is_alive


def test_what_is_no_frame_ends_the_child(start: Start) -> None:
    with start() as embedder, pytest.raises(EmbedderError, match="invalid response"):
        embedder.embed(["garbage"])
    assert not embedder.is_alive


@pytest.mark.parametrize("texts", [["short"], ["short", "b"], ["odd error"]])
def test_invalid_answers_are_refused(start: Start, texts: list[str]) -> None:
    with start() as embedder, pytest.raises(EmbedderError, match="invalid response"):
        embedder.embed(texts)


def test_a_text_too_long_names_itself_and_the_child_goes_on(start: Start) -> None:
    with start() as embedder:
        with pytest.raises(TextTooLong) as caught:
            embedder.embed(["too long"])
        assert (caught.value.index, caught.value.tokens, caught.value.allowed) == (3, 600, 512)
        assert caught.value.as_dict()["found"] == "600 tokens"
        assert embedder.count_tokens(["ab"]) == [2]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("no_llama_cpp", EmbedderError, "pip install llama-cpp-python"),
        ("broken_llama_cpp", EmbedderError, "--force-reinstall"),
        ("old_llama_cpp", EmbedderError, "0.3.16 or newer"),
        ("model", ModelUnusable, "cannot load the model"),
        ("pooling", ModelUnusable, "pooling rank"),
        ("something new", EmbedderError, "refused the request"),
    ],
)
def test_a_refused_start_becomes_its_error(
    start: Start, kind: str, error: type[EmbedderError], words: str
) -> None:
    with pytest.raises(error) as caught:
        start(pooling=f"start:{kind}")
    assert words in " ".join(map(str, caught.value.as_dict().values()))


def test_the_child_inherits_no_credentials(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGOPS_DSN", "secret")
    monkeypatch.setenv("PGPASSFILE", "secret")
    with start() as embedder, pytest.raises(EmbedderError) as caught:
        embedder.embed(["environment"])
    seen = (caught.value.actual or "").split()
    assert "PATH" in seen
    assert not {"RAGOPS_DSN", "PGPASSFILE"} & set(seen)


@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "does not exist"), (b"", "not a GGUF"), (b"<html>", "not a GGUF")],
)
def test_a_wrong_model_file_is_refused_before_the_start(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnusable, match=what) as caught:
        Embedder(EmbedderConfig(path), command=["a program that must not be started"])
    assert caught.value.where == str(path)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(MAGIC)
    with pytest.raises(EmbedderError, match="cannot start the embedder process") as caught:
        Embedder(EmbedderConfig(path, python=str(tmp_path / "python")))
    assert "--version" in (caught.value.hint or "")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of(tmp_path / "f").startswith("ba7816bf8f01cfea")
