"""Run one embedder child from the controller: texts in, vectors out, with deadlines and named deaths."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

# `sha256_of` is imported from here, too, by those who name a model file.
from ragops.builds.standalone import parse_system_info
from ragops.builds.standalone import sha256_of as sha256_of
from ragops.embedder.errors import ChildRefusal, death_error, refusal_error
from ragops.embedder.model_files import check_model_file
from ragops.embedder.process import ChildProcess
from ragops.embedder.protocol import BrokenFrame, Frame, encode_frame, read_frame
from ragops.errors import EmbedderDied, EmbedderError, EmbedderTimeout
from ragops.facts import BuildFacts, ModelFacts
from ragops.subprocesses import Purpose, child_environment, signal_name

CHILD_PROGRAM = Path(__file__).with_name("child.py")
# A text as the model's token ids, shape (tokens,).
TokenIds = NDArray[np.int32]
# Of EmbedderConfig; all other fields are sent to the child.
_PARENT_ONLY = frozenset({"python", "deadline_s", "start_deadline_s"})


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """Configuration of a child. Sizes are tokens, deadlines seconds."""

    model: Path
    # Interpreter of the build; None: this one.
    python: str | None = None
    # auto (the GGUF's pooling_type, else mean for encoders and last for decoders), mean, cls or last.
    pooling: str = "auto"
    # auto (as the model was trained), causal or non-causal.
    attention: str = "auto"
    # What the playbook puts after texts: the child reports their special tokens, each request carries its own.
    document_suffix: str = ""
    query_suffix: str = ""
    # Cut vectors to their first values; None, or no fewer than the model's: whole vectors.
    dimensions: int | None = None
    # 0, or more than the model was trained for: what it was trained for.
    n_ctx: int = 512
    n_batch: int = 2048
    n_ubatch: int = 2048
    n_threads: int = 1
    # Several texts share a batch up to this many tokens; a longer text goes alone.
    tokens_per_batch: int = 256
    f16_kv: bool = True
    low_vram: bool = False
    verbose: bool = False
    # Load the vocabulary only: count tokens, never embed.
    vocab_only: bool = False
    # Repack weights for the CPU; None: yes, except in builds with AMX, some of which crash on it.
    use_extra_bufts: bool | None = None
    # For one request.
    deadline_s: float = 300.0
    # For loading the library and the model; gigabytes from a cold disk take a while.
    start_deadline_s: float = 120.0

    def for_child(self) -> dict[str, object]:
        """Return the header of the configuration frame."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _PARENT_ONLY}
        return {**values, "model": str(self.model)}


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors as pooled, not normalised, in the order of the texts."""

    # Shape (n, dimensions).
    vectors: NDArray[np.float32]
    # Length of each text in tokens, separators included.
    tokens: tuple[int, ...]


class Embedder:
    """A running embedder child. One request at a time; `kill` and `close` work from any thread.

    Raises on start: ModelUnusable (missing, not GGUF, damaged, no pooling), EmbedderError (no
    interpreter, no llama-cpp-python), EmbedderDied, EmbedderTimeout.
    """

    def __init__(self, config: EmbedderConfig, *, command: Sequence[str] | None = None) -> None:
        check_model_file(config.model)
        self.config = config
        self._interpreter = config.python or sys.executable
        self._lock = threading.Lock()
        self._is_ours = False  # this side killed it, or is about to
        self._closed = False
        self._command = list(command) if command else [self._interpreter, str(CHILD_PROGRAM)]
        own = self._interpreter == sys.executable
        environment = child_environment(os.environ, Purpose.EMBEDDER, own_interpreter=own)
        self._child = ChildProcess(self._command, environment)
        try:
            hello = self._exchange(config.for_child(), doing="while it started", limit=config.start_deadline_s)
            try:
                build = hello.header["build"]
                features = parse_system_info(str(build["system_info"]))
                self.build = BuildFacts(**{**build, "features": features})
                self.model = ModelFacts(**hello.header["model"])
            except (KeyError, TypeError) as error:
                raise self._invalid(f"facts of build and model: {type(error).__name__}: {error}") from error
        except BaseException:
            self.close(timeout_s=0.0)
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Return whether the child still runs."""
        return self._child.returncode is None

    def count_tokens(self, texts: Sequence[str], *, suffix: str = "") -> list[int]:
        """Return the number of tokens of each text, separators included, exactly as `embed` would use them.

        `suffix` follows each text; unlike in the text, names of special tokens in it are those tokens.
        Raises EmbedderDied, EmbedderTimeout, EmbedderError.
        """
        reply = self._request("tokens", texts, suffix)
        return self._counts(reply, len(texts))

    def embed(self, texts: Sequence[str], *, suffix: str = "", tokens_per_batch: int | None = None) -> Embeddings:
        """Return the raw pooled vectors of the texts, each with the suffix.

        `tokens_per_batch` makes the batches of this request smaller than the configured ones; 1: each text alone.
        Raises TextTooLong (nothing is ever cut), EmbedderDied, EmbedderTimeout, EmbedderError.
        """
        more = _smaller(tokens_per_batch)
        return self._embeddings(self._request("embed", texts, suffix, **more), len(texts))

    def tokenise(self, texts: Sequence[str], *, suffix: str = "") -> list[TokenIds]:
        """Return the token ids of each text, separators included; raises as `count_tokens` does."""
        reply = self._request("tokenise", texts, suffix)
        counts = self._counts(reply, len(texts))
        if len(reply.payload) != 4 * sum(counts):
            raise self._invalid(f"{len(reply.payload)} bytes for {sum(counts)} token ids")
        ids = np.frombuffer(reply.payload, dtype="<i4")
        ends = np.cumsum(counts).tolist()
        return [ids[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def embed_tokens(self, tokens: Sequence[TokenIds], *, tokens_per_batch: int | None = None) -> Embeddings:
        """Return the raw pooled vectors of texts that `tokenise` has turned into ids; otherwise as `embed`."""
        sizes = [len(ids) for ids in tokens]
        header = {"request": "embed_tokens", "tokens": sizes, **_smaller(tokens_per_batch)}
        payload = np.concatenate(tokens).astype("<i4").tobytes() if tokens else b""
        doing = f"during a request of {len(tokens)} texts"
        reply = self._exchange(header, payload, doing=doing, limit=self.config.deadline_s)
        return self._embeddings(reply, len(tokens))

    def _embeddings(self, reply: Frame, rows: int) -> Embeddings:
        tokens = self._counts(reply, rows)
        width = self.model.dimensions
        if len(reply.payload) != rows * width * 4:
            raise self._invalid(f"{len(reply.payload)} bytes for {rows} vectors of {width}")
        vectors = np.frombuffer(reply.payload, dtype="<f4").reshape(rows, width)
        return Embeddings(vectors.astype(np.float32), tuple(tokens))

    def capture(
        self,
        canary: Mapping[str, object],
        *,
        prefix: str,
        query_prefix: str,
        suffix: str = "",
        query_suffix: str = "",
    ) -> dict[str, Any]:
        """Return the document of a fingerprint, canary vectors included; raises as `embed` does."""
        prefixes = {"prefix": prefix, "query_prefix": query_prefix}
        suffixes = {"suffix": suffix, "query_suffix": query_suffix}
        header = {"request": "capture", "canary": canary, **prefixes, **suffixes}
        reply = self._exchange(header, doing="while it captured", limit=self.config.deadline_s)
        document = reply.header.get("fingerprint")
        if not isinstance(document, dict):
            raise self._invalid("no fingerprint")
        return document

    def kill(self) -> None:
        """Kill the child at once; a request in flight in another thread raises EmbedderDied."""
        self._is_ours = True
        self._child.kill()

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Let the child end and release it; a request in flight in another thread is cut off."""
        if not self._lock.acquire(blocking=False):
            self.kill()
            self._lock.acquire()
        try:
            if not self._closed:
                self._closed = True
                self._is_ours = True
                self._child.close(timeout_s)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout_s=5.0 if kind is None else 0.5)

    def _request(self, name: str, texts: Sequence[str], suffix: str = "", **more: int) -> Frame:
        header = {"request": name, "texts": list(texts), "suffix": suffix, **more}
        doing = f"during a request of {len(texts)} texts"
        return self._exchange(header, doing=doing, limit=self.config.deadline_s)

    def _exchange(self, header: Mapping[str, Any], payload: bytes = b"", *, doing: str, limit: float) -> Frame:
        with self._lock:
            if self._closed:
                raise EmbedderDied("the embedder is closed", where=self._where)
            with self._deadline(limit) as expired:
                try:
                    self._child.stdin.write(encode_frame(header, payload))
                    self._child.stdin.flush()
                    reply = read_frame(self._child.stdout)
                except OSError:  # the pipe broke: the child is gone
                    reply = None
                except BrokenFrame as error:
                    self.kill()
                    raise self._invalid(str(error)) from error
                except BaseException:  # a response left unread would be taken for the next one
                    self.kill()
                    raise
            if reply is None:
                raise self._death(doing, limit=limit, is_late=expired.is_set())
        if "error" in reply.header:
            try:
                refusal = ChildRefusal.parse(reply.header["error"])
            except (TypeError, ValueError) as error:
                raise self._invalid(f"an error that is {reply.header['error']!r:.80}") from error
            raise refusal_error(refusal, model=str(self.config.model), interpreter=self._interpreter)
        return reply

    @contextmanager
    def _deadline(self, limit_s: float) -> Iterator[threading.Event]:
        """Kill the child after `limit_s`; a timer, because a read of a pipe takes no timeout on Windows."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._child.kill()

        timer = threading.Timer(limit_s, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()

    @property
    def _where(self) -> str:
        return f"{' '.join(self._command)}, model {self.config.model}"

    def _death(self, doing: str, *, limit: float, is_late: bool) -> EmbedderDied:
        returncode = self._child.wait()
        tail = self._child.stderr_tail()
        if is_late:
            return EmbedderTimeout(
                "the embedder process did not respond in time and was killed",
                where=self._where,
                actual=f"no response {doing}" + (f"; last output on stderr: {tail}" if tail else ""),
                expected=f"a response within {limit:g} s",
                hint="run no more threads than cores; for slow requests raise workers.request_deadline_s",
            )
        if self._is_ours:
            return EmbedderDied("the embedder process was stopped", where=self._where, actual=f"stopped {doing}")
        return death_error(signal_name(returncode), returncode, during=doing, tail=tail, where=self._where)

    def _invalid(self, actual: str) -> EmbedderError:
        return EmbedderError(
            "invalid response from the embedder process",
            where=self._where,
            actual=actual,
            expected="the protocol of this version of ragops",
        )

    def _counts(self, reply: Frame, expected: int) -> list[int]:
        tokens = reply.header.get("tokens")
        if not isinstance(tokens, list) or len(tokens) != expected:
            raise self._invalid(f"token counts {tokens!r:.80} for {expected} texts")
        return [int(count) for count in tokens]


def _smaller(tokens_per_batch: int | None) -> dict[str, int]:
    return {} if tokens_per_batch is None else {"tokens_per_batch": tokens_per_batch}
