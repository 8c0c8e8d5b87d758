"""Write new vectors to the cache in a separate thread, so that storing documents never waits for it."""

from __future__ import annotations

from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.state import Stats

# Many vectors per transaction: each statement gives up the interpreter's lock and waits to get it back.
WRITE_AT_ONCE = 1000
WRITE_WITHIN_S = 1.0


class CacheWriter:
    """One thread of the fleet: from new vectors to the cache."""

    def __init__(self, pipeline: Pipeline, cache: VectorCache, *, stats: Stats) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self._stats = stats

    def run(self) -> None:
        """Write vectors until no more come. A cache that fails is reported once; the fleet goes on without it."""
        try:
            while unsaved := self._pipeline.take_unsaved(limit=WRITE_AT_ONCE, within_s=WRITE_WITHIN_S):
                self._cache.put(unsaved)
                # Also after a fault: memory must not grow for as long as the disk is full.
                self._pipeline.forget(key for key, _ in unsaved)
                if self._cache.fault:
                    self._stats.info_once(f"the vector cache is not used: {self._cache.fault}")
        finally:
            self._cache.close()
