"""The cache writer puts new vectors into the cache, and a cache that fails costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pipelines import DIMENSIONS, Line, unit

from ragops.workers.cache import VectorCache
from ragops.workers.cache_writer import CacheWriter


def write(line: Line, cache: VectorCache) -> None:
    line.pipe.end()
    CacheWriter(line.pipe, cache, stats=line.stats).run()


def test_new_vectors_go_into_the_cache_and_are_then_forgotten(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite", limit_bytes=1 << 20)
    line = Line(keeps_recent=False)
    line.take_in(["a", "b"])
    line.embed(line.request())
    line.embed(line.request())
    write(line, cache.sibling())
    written = cache.get([b"a", b"b"], dimensions=DIMENSIONS)
    np.testing.assert_array_equal([written[b"a"], written[b"b"]], [unit("a"), unit("b")])
    line.take_in(["a"])
    assert line.next() == ["a"]


def test_a_cache_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    line = Line(keeps_recent=False)
    line.take_in(["a"])
    line.embed(line.request())
    write(line, VectorCache(tmp_path / "file" / "vectors.sqlite", limit_bytes=1 << 20))
    (notice,) = line.stats.take_notices()
    assert notice.startswith("the vector cache is not used: ")
