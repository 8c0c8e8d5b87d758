"""What builds of llama.cpp report: one parser here, in the child, and in both scripts for other machines."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ragops.builds.script import write_script
from ragops.builds.standalone import RECORD, library_files, parse_system_info, recorded_cmake_args, sha256_of
from ragops.embedder import child
from ragops.fingerprint.document import capture_script

# As builds print them, in the logs of llama.cpp's CI and in issues; those named "if it did" are made up.
STRINGS = {
    "cpu": (
        "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | AVX512 = 1 | LLAMAFILE = 1 | OPENMP = 1 | ",
        dict.fromkeys(("SSE3", "SSSE3", "AVX", "AVX2", "AVX512", "LLAMAFILE", "OPENMP"), "1"),
    ),
    "before backends": ("AVX = 1 | AVX2 = 0 | BLAS = 0 | ", {"AVX": "1", "AVX2": "0", "BLAS": "0"}),
    "cuda": (
        "CUDA : ARCHS = 500,700 | USE_GRAPHS = 1 | PEER_MAX_BATCH_SIZE = 128 | CPU : SSE3 = 1 | AVX2 = 1 | ",
        {
            "CUDA.ARCHS": "500,700",
            "CUDA.USE_GRAPHS": "1",
            "CUDA.PEER_MAX_BATCH_SIZE": "128",
            "SSE3": "1",
            "AVX2": "1",
        },
    ),
    "metal": (
        "Metal : EMBED_LIBRARY = 1 | BF16 = 1 | CPU : NEON = 1 | ARM_FMA = 1 | ACCELERATE = 1 | ",
        {"Metal.EMBED_LIBRARY": "1", "Metal.BF16": "1", "NEON": "1", "ARM_FMA": "1", "ACCELERATE": "1"},
    ),
    # Without GGML_METAL_EMBED_LIBRARY its list of features is empty, and its name is printed all the same.
    "metal without features": ("Metal : CPU : NEON = 1 | ARM_FMA = 1 | ", {"NEON": "1", "ARM_FMA": "1"}),
    # Vulkan's backend exports no features (`get_proc_address` is NULL): only the CPU's are printed.
    "vulkan": ("CPU : SSE3 = 1 | F16C = 1 | REPACK = 1 | ", {"SSE3": "1", "F16C": "1", "REPACK": "1"}),
    "vulkan, if it did": ("Vulkan : X = 1 | CPU : SSE3 = 1 | ", {"Vulkan.X": "1", "SSE3": "1"}),
    "cpu before rocm": (
        "CPU : SSE3 = 1 | REPACK = 1 | ROCm : NO_VMM = 1 | FA_QUANTS = q4_0-q4_0,f16-f16 |",
        {"SSE3": "1", "REPACK": "1", "ROCm.NO_VMM": "1", "ROCm.FA_QUANTS": "q4_0-q4_0,f16-f16"},
    ),
    "empty": ("", {}),
}
every_string = pytest.mark.parametrize(("info", "features"), STRINGS.values(), ids=STRINGS)


@every_string
def test_features_carry_their_backend(info: str, features: dict[str, str]) -> None:
    assert parse_system_info(info) == features


def _parser_of_the_capture_script(tmp_path: Path) -> Any:
    """Return the function that the single file defines, from the file as it is handed out."""
    script = tmp_path / "capture.py"
    script.write_text(capture_script(), encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "capture", "__file__": str(script)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("standalone", "child_files", "child_engine", "child_vocabulary", "child_capture", "child"):
            patch.delitem(sys.modules, name, raising=False)
        exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), namespace)
        for name in ("standalone", "child_files", "child_engine", "child_vocabulary", "child_capture", "child"):
            patch.delitem(sys.modules, name)
    return namespace["EMBEDDED"]["standalone"].parse_system_info


def _parser_of_the_reinstall_script() -> Any:
    """Return the function in the check that the script passes to the worker's interpreter."""
    check = write_script("0.3.16", (), shell="bash").partition("<<'CHECK'\n")[2].partition("\nCHECK\n")[0]
    function = check[check.index("def parse_system_info") : check.index("import ctypes")]
    namespace: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{function}", namespace)
    return namespace["parse_system_info"]


def test_other_machines_read_the_same(tmp_path: Path) -> None:
    captures, checks = _parser_of_the_capture_script(tmp_path), _parser_of_the_reinstall_script()
    for info, features in STRINGS.values():
        assert captures(info) == checks(info) == child.standalone.parse_system_info(info) == features
    assert captures.__module__ == "standalone"  # the single file's own, not this package's


def test_a_build_s_record_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "venv"
    prefix.mkdir()
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    assert recorded_cmake_args(prefix) is None
    monkeypatch.setenv("CMAKE_ARGS", "")
    assert recorded_cmake_args(prefix) is None
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_AVX=ON")
    assert recorded_cmake_args(prefix) == "-DGGML_AVX=ON"
    (tmp_path / RECORD).write_text(json.dumps({"cmake_args": ["-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF"]}))
    assert recorded_cmake_args(prefix) == "-DGGML_NATIVE=OFF -DGGML_AVX=OFF"
    (tmp_path / RECORD).write_text(json.dumps({"cmake_args": []}))
    assert recorded_cmake_args(prefix) == ""


def test_libraries_are_listed_with_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libllama.so").write_bytes(b"abc")
    (tmp_path / "llama.py").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert library_files(tmp_path) == [{"name": "libllama.so", "bytes": 3, "sha256": digest}]
    assert sha256_of(tmp_path / "llama.py") == digest
