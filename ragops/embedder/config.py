"""What workers are started with: the child's configuration, its interpreter, the pinned model file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ragops.builds.records import find_build
from ragops.embedder.client import Embedder, EmbedderConfig, sha256_of
from ragops.errors import ModelUnusable, UsageError
from ragops.facts import ModelFacts
from ragops.host import read_limits
from ragops.playbook.model import Playbook

MOST_SIDE_THREADS = 4
TOKENS_PER_BATCH = 256
"""Packing pays up to about this; every token of a batch attends to every other."""


def embedder_config(
    playbook: Playbook,
    *,
    threads: int,
    tokens_per_batch: int | None = None,
    repack: bool | None = None,
    pooling: str | None = None,
) -> EmbedderConfig:
    """The child's configuration. Raises UsageError when the playbook names no model."""
    asked = playbook.workers.tokens_per_batch
    model, parameters = playbook.model, playbook.model.parameters
    if model.file is None:
        raise UsageError(
            "no model is named",
            where="model.file",
            expected="the path of a GGUF embedding model",
            hint="RAGOPS_MODEL=FILE.gguf ragops …   or set model.file in your playbook; `ragops demo` makes one",
        )
    return EmbedderConfig(
        model=Path(model.file),
        python=worker_python(playbook),
        pooling=pooling or model.pooling,
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
    """The workers' interpreter: `workers.python`, else that of the build `build.use`; None is this one.

    Raises UsageError for a build that does not exist.
    """
    if playbook.workers.python is not None:
        return str(playbook.workers.python)
    return str(find_build(playbook.build.use).interpreter) if playbook.build.use else None


def checked_sha256(playbook: Playbook) -> str:
    """The model file's SHA-256. Raises ModelUnusable when it is missing or not the pinned one."""
    config = embedder_config(playbook, threads=1)
    if not config.model.is_file():
        raise ModelUnusable(
            "the model file does not exist",
            where=str(config.model),
            expected="a GGUF embedding model",
            hint="set RAGOPS_MODEL or model.file; relative paths start at the current folder",
        )
    found = sha256_of(config.model)
    pinned = playbook.model.sha256
    if pinned and pinned.lower() != found:
        raise ModelUnusable(
            "the model file is not the pinned one",
            where=str(config.model),
            actual=f"SHA-256 {found}",
            expected=f"SHA-256 {pinned.lower()} (model.sha256)",
            hint="fetch the right file, or correct the pin",
        )
    return found


def side_threads() -> int:
    """Threads of a child that embeds a sample, perhaps beside a fleet: half of the cores, at most four.

    llama.cpp's threads wait for each other at barriers; one that waits for a busy core holds up all.
    """
    return max(1, min(read_limits().cores // 2, MOST_SIDE_THREADS))


def probe_model(playbook: Playbook) -> ModelFacts:
    """Read the facts of the playbook's model from its vocabulary alone, which takes no time.

    Raises UsageError without a model, ModelUnusable or EmbedderError when it cannot be loaded.
    """
    config = dataclasses.replace(embedder_config(playbook, threads=1), vocab_only=True)
    with Embedder(config) as embedder:
        return embedder.model
