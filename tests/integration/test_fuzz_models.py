"""Damaged GGUF headers: the child refuses each, or dies of it; the program gets one error and never hangs."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.errors import EmbedderError, EmbedderTimeout

COUNTS = [pytest.param(10, id="some"), pytest.param(1000, id="all", marks=[pytest.mark.slow, pytest.mark.long])]
# Magic, version, number of tensors, number of keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
COUNTED_AT, KEYS_AT, FIRST_KEY_AT = 8, 16, 24
WILD = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DEADLINE_S = 60.0


def damaged(rng: random.Random, whole: bytes) -> bytes:
    data, header = bytearray(whole), len(whole) // 4
    kind = rng.randrange(5)
    if kind == 0:
        return whole[: rng.randint(4, header)]
    if kind == 1:  # numbers of tensors and of keys
        struct.pack_into("<Q", data, rng.choice((COUNTED_AT, KEYS_AT)), rng.choice(WILD))
    elif kind == 2:  # the length of the first key's name, or of anything else
        struct.pack_into("<Q", data, rng.choice((FIRST_KEY_AT, rng.randrange(24, 2000))), rng.choice(WILD))
    elif kind == 3:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(4, 3000)] ^= 1 << rng.randrange(8)
    else:
        start = rng.randrange(24, header)
        data[start : start + rng.randint(1, 64)] = rng.randbytes(rng.randint(0, 64))
    return bytes(data)


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_header_is_one_error(count: int, tiny_model: Path, tmp_path: Path) -> None:
    whole, file = tiny_model.read_bytes(), tmp_path / "damaged.gguf"
    refused = 0
    for seed in range(count):
        file.write_bytes(damaged(random.Random(seed), whole))
        try:
            with Embedder(EmbedderConfig(file, start_deadline_s=DEADLINE_S)) as embedder:
                embedder.embed(["water"])
        except EmbedderTimeout as error:
            raise AssertionError(f"seed {seed}: it hangs") from error
        except EmbedderError as error:
            assert error.what and error.where, f"seed {seed}"
            refused += 1
    # A changed letter of a name that llama.cpp ignores is no damage.
    assert refused > count / 2
