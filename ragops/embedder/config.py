"""Configure the workers' children from the playbook: parameters, interpreter, the pinned model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ragops.builds.records import find_build
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.embedder.model_files import check_model_file, model_sha256
from ragops.embedder.starting import open_embedder, use_child
from ragops.errors import ModelUnusable, UsageError
from ragops.facts import ModelFacts
from ragops.host import read_limits
from ragops.playbook.model import Playbook

# A sample is small: more threads would take cores from a fleet that may run beside it.
MOST_SIDE_THREADS = 4
# Larger batches stop paying off around here, because attention cost grows with every token in the batch.
TOKENS_PER_BATCH = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """How a fleet's children are configured, as far as it moves vectors; the fleet's planning fills it."""

    threads: int = 1
    tokens_per_batch: int | None = None
    repack: bool | None = None


def embedder_config(
    playbook: Playbook,
    *,
    threads: int,
    tokens_per_batch: int | None = None,
    repack: bool | None = None,
) -> EmbedderConfig:
    """Return the child's configuration. Raises UsageError if the playbook names no model."""
    asked = playbook.workers.tokens_per_batch
    model, parameters = playbook.model, playbook.model.parameters
    if model.file is None:
        raise UsageError(
            "no model is named",
            where="model.file",
            expected="the path of a GGUF embedding model",
            hint="RAGOPS_MODEL=FILE.gguf ragops …   or set model.file in your playbook; `ragops demo` creates one",
        )
    return EmbedderConfig(
        model=Path(model.file),
        python=worker_python(playbook),
        pooling=model.pooling,
        attention=model.attention,
        dimensions=model.dimensions,
        document_suffix=model.document_suffix,
        query_suffix=model.query_suffix,
        n_ctx=parameters.n_ctx,
        n_batch=parameters.n_batch,
        n_ubatch=parameters.n_ubatch,
        n_threads=threads,
        tokens_per_batch=tokens_per_batch or (TOKENS_PER_BATCH if asked == "auto" else asked),
        f16_kv=parameters.f16_kv,
        low_vram=parameters.low_vram,
        verbose=parameters.verbose,
        use_extra_bufts=playbook.workers.repack_weights if repack is None else repack,
        deadline_s=float(playbook.workers.request_deadline_s),
    )


def worker_python(playbook: Playbook) -> str | None:
    """Return the workers' interpreter: `workers.python`, else that of the build `build.use`; None is this one.

    Raises UsageError for a build that does not exist.
    """
    if playbook.workers.python is not None:
        return str(playbook.workers.python)
    return str(find_build(playbook.build.use).interpreter) if playbook.build.use else None


def checked_sha256(playbook: Playbook) -> str:
    """Return the SHA-256 of the model's files. Raises ModelUnusable if they are missing or not the pinned ones."""
    config = embedder_config(playbook, threads=1)
    check_model_file(config.model)
    actual = model_sha256(config.model)
    pinned = playbook.model.sha256
    if pinned and pinned.lower() != actual:
        raise ModelUnusable(
            "the model file is not the pinned one",
            where=str(config.model),
            actual=f"SHA-256 {actual}",
            expected=f"SHA-256 {pinned.lower()} (model.sha256)",
            hint="download the right file, or correct model.sha256",
        )
    return actual


def side_threads() -> int:
    """Return the threads of a child that embeds a sample, perhaps beside a fleet: half of the cores, at most 4.

    llama.cpp's threads wait for each other at barriers: one that waits for a busy core delays all of them.
    """
    return max(1, min(read_limits().cores // 2, MOST_SIDE_THREADS))


def probe_model(playbook: Playbook, *, look: Callable[[Embedder], None] = lambda _: None) -> ModelFacts:
    """Read the facts of the playbook's model from its vocabulary alone, without loading gigabytes of weights.

    `look` gets the child, which counts tokens. Raises UsageError without a model, ModelUnusable or EmbedderError
    if it cannot be loaded, and as `look`.
    """
    config = dataclasses.replace(embedder_config(playbook, threads=1), vocab_only=True)

    def read(embedder: Embedder) -> ModelFacts:
        look(embedder)
        return embedder.model

    return use_child(lambda: open_embedder(config), read)
