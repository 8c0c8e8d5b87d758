"""The cache of vectors: bounded, shared, and never in the way when its file is broken, locked or out of reach."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ragops.paths import cache_file
from ragops.workers import cache as module
from ragops.workers.cache import KEYS_PER_QUERY, VectorCache

DIMENSIONS = 64
ROOMY = 1 << 30
Vector = NDArray[np.float32]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "vectors.sqlite"


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def vectors(numbers: Sequence[int], *, dimensions: int = DIMENSIONS) -> list[tuple[bytes, Vector]]:
    """A unit vector that no two numbers share, for each."""
    drawn = [np.random.default_rng(n).normal(size=dimensions) for n in numbers]
    return [
        (key_of(n), (vector / np.linalg.norm(vector)).astype(np.float32))
        for n, vector in zip(numbers, drawn, strict=True)
    ]


def get(cache: VectorCache, keys: Sequence[bytes], *, dimensions: int = DIMENSIONS) -> dict[bytes, Vector]:
    return cache.get(keys, dimensions=dimensions)


def known(cache: VectorCache, numbers: Sequence[int], *, dimensions: int = DIMENSIONS) -> list[int]:
    """Those of the numbers whose vector is there."""
    found = get(cache, [key_of(n) for n in numbers], dimensions=dimensions)
    return sorted(int.from_bytes(key, "big") for key in found)


def test_what_is_put_is_got_bit_by_bit(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    assert get(cache, [key_of(1)]) == {}
    put = dict(vectors([1, 2, 3]))
    cache.put(list(put.items()))
    read = get(cache, [key_of(3), key_of(9), key_of(1)])
    assert read.keys() == {key_of(3), key_of(1)}
    for key, vector in read.items():
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, put[key])
    assert cache.fault is None


def test_it_outlives_the_program(file: Path) -> None:
    first = VectorCache(file, limit_bytes=ROOMY)
    first.put(vectors([1]))
    first.close()
    assert known(VectorCache(file, limit_bytes=ROOMY), [1, 2]) == [1]


def test_what_is_known_stays_as_it_is(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put(vectors([1]))
    cache.put([(key_of(1), np.zeros(DIMENSIONS, np.float32)), *vectors([2])])
    np.testing.assert_array_equal(get(cache, [key_of(1)])[key_of(1)], vectors([1])[0][1])
    assert cache.facts().vectors == 2


def test_rows_of_an_array_are_stored_as_they_are(file: Path) -> None:
    """A vector may be a row or a column of a larger array, in any byte order."""
    cache = VectorCache(file, limit_bytes=ROOMY)
    square = np.array([[1, 0, 0, 0], [0, 1, 0.6, 0], [0, 0, 0.8, 0], [0, 0.8, 0, 0.6]], np.float32)
    cache.put([(key_of(1), square[0]), (key_of(2), square[:, 2]), (key_of(3), square[3].astype(">f4"))])
    read = get(cache, list(map(key_of, (1, 2, 3))), dimensions=4)
    expected = [square[0], square[:, 2], square[3]]
    np.testing.assert_array_equal(list(read.values()), expected)


@pytest.mark.parametrize("count", [KEYS_PER_QUERY - 1, KEYS_PER_QUERY, KEYS_PER_QUERY + 1, 3 * KEYS_PER_QUERY])
def test_more_keys_than_a_query_takes(file: Path, count: int) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put(vectors(range(count), dimensions=4))
    assert known(cache, range(count + 10), dimensions=4) == list(range(count))
    assert cache.fault is None


def test_nothing_at_all(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put([])
    assert get(cache, []) == {}
    assert cache.fault is None


@pytest.mark.parametrize("at_once", [50, 400])
def test_the_file_is_bounded_and_the_oldest_go_first(
    file: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """However many are put at once: a limit that holds only for small puts is none."""
    monkeypatch.setattr(module, "EVICTED_AT_ONCE", 100)
    limit, total = 400_000, 6000
    cache = VectorCache(file, limit_bytes=limit)
    for start in range(0, total, at_once):
        cache.put(vectors(range(start, start + at_once)))
    kept = known(cache, range(total))
    assert kept == list(range(kept[0], total))
    assert limit / 2 < len(kept) * 4 * DIMENSIONS <= limit
    cache.close()
    assert file.stat().st_size < 2 * limit
    assert cache.fault is None


def test_a_limit_below_one_vector_keeps_none_and_ends(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=1)
    cache.put(vectors(range(10)))
    assert known(cache, range(10)) == []
    assert cache.fault is None


def test_facts_and_clear(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    assert (cache.facts().vectors, cache.facts().bytes, cache.facts().file) == (0, 0, file)
    assert not file.exists()
    cache.put(vectors(range(100)))
    facts = cache.facts()
    assert facts.vectors == 100
    assert facts.bytes > 100 * 4 * DIMENSIONS
    cache.clear()
    assert list(file.parent.iterdir()) == []
    assert (cache.facts().vectors, cache.facts().bytes) == (0, 0)
    cache.clear()
    cache.put(vectors([1]))
    assert known(cache, [1]) == [1]


@pytest.mark.parametrize("damage", [b"no database " * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_replaced_and_reported(file: Path, damage: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(damage)
    cache = VectorCache(file, limit_bytes=ROOMY)
    assert get(cache, [key_of(1)]) == {}
    assert cache.fault is not None
    assert cache.fault.endswith("; deleted the file and started an empty one")
    cache.put(vectors([1]))
    assert known(cache, [1]) == [1]


def test_a_file_damaged_in_the_middle_is_replaced(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put(vectors(range(500)))
    cache.close()
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * (file.stat().st_size - 4096))
    cache = VectorCache(file, limit_bytes=ROOMY)
    assert get(cache, [key_of(1)]) == {}
    assert "malformed" in str(cache.fault)
    cache.put(vectors([1]))
    assert known(cache, range(500)) == [1]


UNIT = np.eye(DIMENSIONS, dtype="<f4")[3]
DAMAGED = {
    "zeros": np.zeros(DIMENSIONS, "<f4").tobytes(),
    "NaN": np.where(UNIT > 0, np.nan, UNIT).astype("<f4").tobytes(),
    "infinite": np.where(UNIT > 0, np.inf, UNIT).astype("<f4").tobytes(),
    "too long": (UNIT * 5).astype("<f4").tobytes(),
    "a little too long": (UNIT * 1.002).astype("<f4").tobytes(),
    "too short": UNIT.tobytes()[:-4],
    "of another dimension": np.eye(DIMENSIONS + 1, dtype="<f4")[3].tobytes(),
    "cut within a number": UNIT.tobytes()[:-1],
    "empty": b"",
    "a text": "vector",
    "a number": 7,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_row_is_unknown_and_can_be_put_again(file: Path, damage: bytes | str | int) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put(vectors(range(10)))
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE vectors SET vector = ? WHERE key IN (?, ?)", [damage, key_of(4), key_of(7)])
    assert known(cache, range(10)) == [0, 1, 2, 3, 5, 6, 8, 9]
    assert (cache.fault, cache.facts().vectors) == (None, 8)
    cache.put(vectors([4]))
    assert known(cache, range(10)) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_a_vector_of_float32_is_never_taken_for_damaged(file: Path) -> None:
    cache = VectorCache(file, limit_bytes=ROOMY)
    for dimensions in (1, 3, 384, 4096):
        cache.put(vectors([dimensions], dimensions=dimensions))
        assert known(cache, [dimensions], dimensions=dimensions) == [dimensions]


def test_a_folder_out_of_reach_counts_as_not_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = VectorCache(tmp_path / "file" / "below" / "vectors.sqlite", limit_bytes=ROOMY)
    cache.put(vectors([1]))
    assert get(cache, [key_of(1)]) == {}
    assert cache.fault is not None
    assert str(tmp_path / "file" / "below") in cache.fault
    assert cache.facts().vectors == 0


def test_a_folder_in_the_file_s_place_counts_as_not_known(file: Path) -> None:
    file.mkdir(parents=True)
    cache = VectorCache(file, limit_bytes=ROOMY)
    cache.put(vectors([1]))
    assert get(cache, [key_of(1)]) == {}
    assert str(file) in str(cache.fault)
    assert file.is_dir()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_locked_database_counts_as_not_known_until_it_is_free(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    monkeypatch.setattr(module, "BUSY_S", 0.05)
    if not is_new:
        before = VectorCache(file, limit_bytes=ROOMY)
        before.put(vectors([1]))
        before.close()
    file.parent.mkdir(exist_ok=True)
    cache = VectorCache(file, limit_bytes=ROOMY)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        cache.put(vectors([2]))
        assert get(cache, [key_of(2)]) == {}
        assert "locked" in str(cache.fault)
        other.execute("ROLLBACK")
    cache.put(vectors([3]))
    assert known(cache, [1, 2, 3]) == ([3] if is_new else [1, 3])


def test_two_at_once_on_one_file(file: Path) -> None:
    one = VectorCache(file, limit_bytes=ROOMY)
    other = one.sibling()
    one.put(vectors([1]))
    assert known(other, [1, 2]) == [1]
    other.put(vectors([1, 2]))
    assert known(one, [1, 2]) == [1, 2]
    assert (one.fault, other.fault) == (None, None)


def test_one_may_clear_while_another_has_it_open(file: Path) -> None:
    one = VectorCache(file, limit_bytes=ROOMY)
    one.put(vectors([1]))
    try:
        one.sibling().clear()
    except PermissionError:  # Windows keeps an open file
        return
    one.put(vectors([2]))
    assert get(one, [key_of(3)]) == {}
    one.close()
    fresh = one.sibling()
    fresh.put(vectors([4]))
    assert known(fresh, range(5)) == [4]


def test_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGOPS_CACHE_DIR", str(tmp_path / "mine"))
    assert VectorCache.at_home(limit_mib=0) is None
    cache = VectorCache.at_home(limit_mib=1)
    assert cache is not None
    assert not (tmp_path / "mine").exists()
    cache.put(vectors([1]))
    assert cache.facts().file == cache_file()
    assert cache_file().parent == tmp_path / "mine"
    assert cache_file().is_file()
