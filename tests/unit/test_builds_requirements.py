"""Requirements files of workers: pinned, and compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragops.builds.requirements import check_requirements, corrected_lines
from ragops.errors import UsageError

GOOD = "--no-binary=llama-cpp-python\nllama-cpp-python==0.3.16\nnumpy>=1.26\n"


def write(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "--no-binary :all:\nllama_cpp_python == 0.3.16 ; sys_platform == 'win32'\n",
        "llama.cpp.python[server]===0.3.16  # the backend's\n--no-binary=numpy,Llama_Cpp_Python\n",
        "--no-binary=llama-cpp-python\nllama-cpp-python==0.3.16 \\\n    --hash=sha256:00\n",
        '--no-binary "llama-cpp-python"\nllama-cpp-python (==0.3.16)\n',
        "--only-binary=:all:\n--no-binary=llama-cpp-python\nllama-cpp-python==0.3.16\n",
    ],
)
def test_files_that_pip_compiles_from(tmp_path: Path, text: str) -> None:
    assert check_requirements(write(tmp_path, text)) == []


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("numpy\n", {"requirements-pin", "requirements-no-binary"}),
        ("llama-cpp-python==0.3.16\n", {"requirements-no-binary"}),
        ("--no-binary=llama-cpp-python\nllama-cpp-python>=0.3\n", {"requirements-pin"}),
        ("--no-binary=llama-cpp-python\nllama-cpp-python\n", {"requirements-pin"}),
        ("--no-binary=llama-cpp-python\nllama-cpp-python==0.3.*\n", {"requirements-pin"}),
        ("--no-binary=llama-cpp-python\n# llama-cpp-python==0.3.16\n", {"requirements-pin"}),
        ("--no-binary=llama-cpp-python-other\nllama-cpp-python==0.3.16\n", {"requirements-no-binary"}),
        (GOOD + "--only-binary=:all:\n", {"requirements-no-binary"}),
        (GOOD + "--no-binary=:none:\n", {"requirements-no-binary"}),
        (GOOD + "llama-cpp-python==0.3.23\n", {"requirements-pins"}),
        (GOOD + "--extra-index-url https://example.org/whl/cpu\n", {"requirements-index"}),
        (
            "llama-cpp-python==0.3.16\n--extra-index-url=https://example.org/whl/cu124\n",
            {"requirements-index", "requirements-no-binary"},
        ),
        (
            "--no-binary=llama-cpp-python\nllama-cpp-python @ https://example.org/llama_cpp_python-0.3.16-x.whl\n",
            {"requirements-pin", "requirements-wheel"},
        ),
        ("# CMAKE_ARGS='-DLLAMA_AVX=OFF'\n" + GOOD, {"requirements-old-flag"}),
    ],
)
def test_files_that_pip_makes_something_else_of(tmp_path: Path, text: str, ids: set[str]) -> None:
    findings = check_requirements(write(tmp_path, text))
    assert {finding.id for finding in findings} == ids
    assert all(finding.hint for finding in findings)


def test_findings_name_file_and_line_errors_first(tmp_path: Path) -> None:
    text = "# -DLLAMA_FMA=OFF\nnumpy\nllama-cpp-python>=0.3\n--extra-index-url https://example.org/whl/metal\n"
    findings = check_requirements(write(tmp_path, text))
    assert [finding.severity for finding in findings] == ["error", "error", "error", "warning"]
    assert "requirements.txt:3: 'llama-cpp-python>=0.3'" in findings[0].message
    assert findings[-1].hint == "write -DGGML_FMA=OFF"


def test_included_files_and_constraints_count(tmp_path: Path) -> None:
    write(tmp_path, "llama-cpp-python==0.3.16\n-r requirements.txt\n", "pins.txt")
    file = write(tmp_path, "-c pins.txt\n--no-binary=llama-cpp-python\nllama-cpp-python\n")
    assert check_requirements(file) == []
    file = write(tmp_path, "-r pins.txt\n--no-binary=llama-cpp-python\n")
    assert check_requirements(file) == []


def test_powershell_s_encoding_is_read(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(GOOD, encoding="utf-16")
    assert check_requirements(file) == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"caf\xe9"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "requirements.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        check_requirements(file)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("numpy\n", ["llama-cpp-python==0.3.16"]),
        (
            "llama-cpp-python[server]>=0.2 ; python_version>'3.9'\n",
            ["llama-cpp-python[server]==0.3.16 ; python_version>'3.9'"],
        ),
        ("llama_cpp_python @ https://example.org/x.whl\n", ["llama-cpp-python==0.3.16"]),
        (GOOD, ["llama-cpp-python==0.3.16"]),
    ],
)
def test_corrected_lines_pass(tmp_path: Path, text: str, lines: list[str]) -> None:
    corrected = corrected_lines(write(tmp_path, text), "0.3.16")
    assert corrected.splitlines() == ["--no-binary=llama-cpp-python", *lines]
    assert check_requirements(write(tmp_path, corrected)) == []
