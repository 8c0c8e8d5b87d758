"""The id of a worker's configuration: the same for the same build in every release of ragops."""

from __future__ import annotations

import pytest

from ragops.builds.standalone import parse_system_info
from ragops.facts import BuildFacts, ModelFacts
from ragops.fingerprint.document import fingerprint_of
from ragops.playbook.model import Model

MODEL = ModelFacts(
    path="m.gguf",
    file_bytes=4,
    architecture="bert",
    name="n",
    description="d",
    dimensions=384,
    n_ctx_train=512,
    n_vocab=30522,
    n_params=1,
    pooling="mean",
    is_decoder=False,
    max_tokens=512,
    requested={},
    effective={},
)


def identified(info: str, *, python: str = "python") -> str:
    features = parse_system_info(info)
    build = BuildFacts(python, "3.11.2", "0.3.36", info, features, "Linux x86_64")
    return fingerprint_of(build, MODEL, Model(query_prefix="query: "), sha256="ab" * 32).fingerprint_id


# Computed by the release before the parsers were merged; ledgers hold such ids.
@pytest.mark.parametrize(
    ("info", "id"),
    [
        (
            "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | F16C = 1 | BMI2 = 1 | LLAMAFILE = 1 | OPENMP = 1 | "
            "REPACK = 1 | ",
            "d38a7471c2d6f73e",
        ),
        (
            "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | AVX512 = 1 | "
            "AVX512_VBMI = 1 | AVX512_VNNI = 1 | AVX512_BF16 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | ",
            "41385c27d6ef4341",
        ),
        (
            "CPU : NEON = 1 | ARM_FMA = 1 | FP16_VA = 1 | DOTPROD = 1 | LLAMAFILE = 1 | OPENMP = 1 | "
            "AARCH64_REPACK = 1 | ",
            "63aac2d5c90f8291",
        ),
        (
            "AVX = 1 | AVX_VNNI = 0 | AVX2 = 1 | AVX512 = 0 | FMA = 1 | NEON = 0 | ARM_FMA = 0 | F16C = 1 | "
            "BLAS = 0 | SSE3 = 1 | SSSE3 = 1 | VSX = 0 | ",
            "45f3b829dfa4a270",
        ),
    ],
    ids=["sse and avx", "avx512", "arm", "before backends"],
)
def test_ids_of_cpu_builds_never_change(info: str, id: str) -> None:
    assert identified(info) == id


def test_the_machine_is_no_part_of_it_and_the_build_is() -> None:
    info = "CPU : SSE3 = 1 | "
    assert identified(info) == identified(info, python="/other/python")
    assert identified(info) != identified(f"{info}CUDA : USE_GRAPHS = 1 | ")
