"""CMake arguments: parsed, and those that ggml ignores."""

from __future__ import annotations

import pytest

from ragops.builds.cmake_flags import flag_findings, is_native, is_on, new_name, parse_flags, split_arguments
from ragops.errors import UsageError


def test_a_whole_cmake_args_string_is_split() -> None:
    assert split_arguments(["-DGGML_AVX=OFF  -DGGML_FMA:BOOL=0", "-GNinja"]) == (
        "-DGGML_AVX=OFF",
        "-DGGML_FMA:BOOL=0",
        "-GNinja",
    )


@pytest.mark.parametrize(
    "bad", ["GGML_AVX=OFF", '-DX="a"', "-DX=$HOME", "-DX=a;b", "-DX=`id`", "-DX='y'", "-DX=a&b", "-DX=C:\\tools"]
)
def test_what_cmake_args_cannot_pass_is_refused(bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_arguments([bad])
    assert caught.value.actual == bad
    assert caught.value.hint


def test_the_last_of_a_name_counts() -> None:
    assert parse_flags(["-DA=ON", "-DB:STRING=x", "-DA=OFF", "-GNinja"]) == {"B": "x", "A": "OFF"}


@pytest.mark.parametrize("value", ["ON", "1", "yes", "TRUE", "Y", "2"])
def test_true_values(value: str) -> None:
    assert is_on(value)


@pytest.mark.parametrize("value", ["OFF", "0", "no", "FALSE", "n", "", "ignore", "X-NOTFOUND"])
def test_false_values(value: str) -> None:
    assert not is_on(value)


def test_native_by_default() -> None:
    assert is_native({})
    assert not is_native({"GGML_NATIVE": "OFF"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LLAMA_AVX", "GGML_AVX"),
        ("LLAMA_CUBLAS", "GGML_CUDA"),
        ("LLAMA_NATIVE", "GGML_NATIVE"),
        ("GGML_HIPBLAS", "GGML_HIP"),
        ("LLAMA_CUDA_FORCE_MMQ", "GGML_CUDA_FORCE_MMQ"),
        ("LLAMA_CURL", None),
        ("LLAMA_BUILD", None),
        ("LLAMA_BUILD_TESTS", None),
        ("LLAMA_FATAL_WARNINGS", None),
        ("GGML_AVX", None),
        ("CMAKE_BUILD_TYPE", None),
    ],
)
def test_old_names(old: str, new: str | None) -> None:
    assert new_name(old) == new


def test_every_ignored_name_is_a_warning() -> None:
    findings = flag_findings(
        ["-DLLAMA_AVX2=OFF", "-DGGML_AVX_2=ON", "-DGGML_FMA=ON", "-DGGML_FMA=OFF", "-DGGML_CUDA_X=1"]
    )
    by_id = {finding.id: finding for finding in findings}
    assert by_id.keys() == {"flag-old-llama_avx2", "flag-unknown-ggml_avx_2", "flag-twice-ggml_fma"}
    assert {finding.severity for finding in findings} == {"warning"}
    assert by_id["flag-old-llama_avx2"].hint == "write -DGGML_AVX2=OFF"
    assert "-DGGML_AVX" in by_id["flag-unknown-ggml_avx_2"].hint
    assert "OFF and ON" in by_id["flag-twice-ggml_fma"].message


def test_the_runbook_s_flags_are_all_known() -> None:
    asked = ["-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF", "-DGGML_F16C=OFF"]
    assert flag_findings(asked) == []
