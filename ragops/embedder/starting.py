"""Start a child although the system kills processes: memory that ran out is not the build's fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import EmbedderDied
from ragops.subprocesses import is_from_outside

# Another start of a child that was killed from outside before it was ready, this often and so much later.
STARTS_AGAIN = 3
PAUSE_S = 0.5

Result = TypeVar("Result")


def open_embedder(config: EmbedderConfig, *, command: Sequence[str] | None = None) -> Embedder:
    """Return a started child as `start_child` does, without a word about those that were killed."""
    return start_child(lambda: Embedder(config, command=command))


def start_child(
    start: Callable[[], Embedder], *, on_death: Callable[[EmbedderDied], None] = lambda _: None
) -> Embedder:
    """Return a started child; try again if one was killed from outside (SIGKILL) while it started.

    `on_death` is called before another try, and may raise to end them. Raises as `Embedder`: a model that cannot
    be used, and a child that crashes by itself, would fail again.
    """
    for _ in range(STARTS_AGAIN):
        try:
            return start()
        except EmbedderDied as death:
            if not is_from_outside(death.returncode):
                raise
            on_death(death)
            time.sleep(PAUSE_S)
    return start()


def use_child(
    start: Callable[[], Embedder],
    work: Callable[[Embedder], Result],
    *,
    on_death: Callable[[EmbedderDied], None] = lambda _: None,
) -> Result:
    """Run `work` with a child that `start` returns; from its beginning with another one if it was killed.

    `on_death` is called before another try. Raises as `start`, which tries a first start again itself, and `work`.
    """
    for _ in range(STARTS_AGAIN):
        with start() as embedder:
            try:
                return work(embedder)
            except EmbedderDied as death:
                if not is_from_outside(death.returncode):
                    raise
                on_death(death)
        time.sleep(PAUSE_S)
    with start() as embedder:
        return work(embedder)
