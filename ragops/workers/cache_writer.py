"""The keeper: puts fresh vectors into the cache, beside the outlet, so that no document waits for its disk."""

from __future__ import annotations

from ragops.workers.buffer import Pipeline
from ragops.workers.cache import VectorCache
from ragops.workers.state import Stats

KEEP_AT_ONCE = 1000
KEEP_WITHIN_S = 1.0


class CacheWriter:
    """One thread of the fleet: from fresh vectors to the cache."""

    def __init__(self, pipeline: Pipeline, cache: VectorCache, *, stats: Stats) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self._stats = stats

    def run(self) -> None:
        """Keep vectors until no more come. A cache that fails is said and done without."""
        try:
            while fresh := self._pipeline.take_fresh(limit=KEEP_AT_ONCE, within_s=KEEP_WITHIN_S):
                self._cache.put(fresh)
                self._pipeline.forget(key for key, _ in fresh)
                if self._cache.fault:
                    self._stats.info_once(f"the cache of vectors is not used: {self._cache.fault}")
        finally:
            self._cache.close()
