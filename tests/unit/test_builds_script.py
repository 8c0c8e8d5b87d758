"""The script for worker machines: valid, and the same steps."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ragops.builds.script import write_script
from ragops.errors import UsageError

FLAGS = ("-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DCMAKE_BUILD_TYPE=Release")
STEPS = ("uninstall", "CMAKE_ARGS", "--no-cache-dir", "--no-binary=llama-cpp-python", "llama_print_system_info")
RECORDER = """\
#!/bin/sh
case "$1" in
  -) cat > "$SCRIPT_CHECK" ;;
  *) echo "$CMAKE_ARGS|$FORCE_CMAKE|$*" >> "$SCRIPT_LOG" ;;
esac
"""
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.mark.parametrize("shell", ["bash", "powershell"])
def test_the_steps_in_order(shell: str) -> None:
    text = write_script("0.3.16", FLAGS, shell=shell)
    body = text[text.index("# 1.") :]
    places = [body.index(step) for step in STEPS]
    assert places == sorted(places)
    assert "'-DGGML_NATIVE=OFF -DGGML_AVX=OFF -DCMAKE_BUILD_TYPE=Release'" in text
    assert "'llama-cpp-python==0.3.16'" in text
    assert "EXPECTED = {'AVX': False}\n" in text


@needs_bash
@pytest.mark.parametrize("flags", [(), FLAGS])
def test_bash_takes_it(flags: tuple[str, ...]) -> None:
    text = write_script("0.3.16", flags, shell="bash")
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_bash
def test_the_bash_script_runs_its_steps(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    log, check = tmp_path / "log", tmp_path / "check.py"
    environment = {
        **os.environ,
        "SCRIPT_LOG": str(log),
        "SCRIPT_CHECK": str(check),
        "CXX": "sh",
        "CMAKE_ARGS": "old",
    }
    script = tmp_path / "script.sh"
    script.write_text(write_script("0.3.16", FLAGS, shell="bash"))
    command = ["bash", str(script), str(tmp_path / "venv")]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    uninstall, install = log.read_text().splitlines()
    assert uninstall.endswith("-m pip uninstall --yes llama-cpp-python")
    assert install == (
        f"{' '.join(FLAGS)}|1|-m pip install --no-cache-dir --no-binary=llama-cpp-python llama-cpp-python==0.3.16"
    )
    compile(check.read_text(), "check.py", "exec")


def test_powershell_text_is_balanced_and_stops_at_failures() -> None:
    text = write_script("0.3.16", FLAGS, shell="powershell")
    outside = text[: text.index("$check = @'")] + text[text.index("\n'@\n") :]
    assert all(outside.count(a) == outside.count(b) for a, b in ("{}", "()", "[]"))
    assert "$ErrorActionPreference = 'Stop'" in text
    assert "$LASTEXITCODE -ne 0" in text
    assert text.count("\n'@\n") == 1


def test_unknown_shells_and_unsafe_values_are_refused() -> None:
    for version, flags, shell in (
        ("0.3.16", FLAGS, "fish"),
        ("0.3.16'; rm -rf x; '", FLAGS, "bash"),
        ("0.3.16", ("-DX='; rm'",), "bash"),
    ):
        with pytest.raises(UsageError):
            write_script(version, flags, shell=shell)
