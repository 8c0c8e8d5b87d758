"""An interpreter that fakes `venv`, `pip` and the probe; GGML_FAKE_PIP and GGML_FAKE_PROBE make them fail."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """\
#!{python}
import json, os, pathlib, shutil, signal, subprocess, sys, time
arguments = sys.argv[1:]
if arguments[:2] == ["-m", "venv"]:
    if os.environ.get("GGML_FAKE_VENV") == "fail":
        sys.exit("Error: ensurepip is not available")
    folder = pathlib.Path(arguments[-1], "bin")
    folder.mkdir(parents=True)
    shutil.copy(__file__, folder / "python")
elif arguments[:2] == ["-m", "pip"]:
    print("pip", *arguments[2:])
    print("CMAKE_ARGS is", repr(os.environ["CMAKE_ARGS"]), "FORCE_CMAKE is", os.environ["FORCE_CMAKE"])
    print("CXXFLAGS is", repr(os.environ.get("CXXFLAGS", "")))
    print("SOURCE_DATE_EPOCH" in os.environ, os.environ["TMPDIR"])
    how = os.environ.get("GGML_FAKE_PIP", "")
    if how == "fail":
        print("  [7/84] /usr/bin/g++ -o ggml.o")
        print("  ggml.c:12:3: error: unknown type name 'floaty'")
        print("  error: subprocess-exited-with-error")
        print("ERROR: Failed building wheel for llama-cpp-python")
        sys.exit(1)
    if how == "hang":
        compiler = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("[1/84] compiling", flush=True)
        pathlib.Path(os.environ["GGML_FAKE_PID_FILE"]).write_text(str(compiler.pid))
        time.sleep(600)
    for number in range(1, 5):
        print(f"  [{{number}}/4] Building CXX object part{{number}}.o")
elif arguments[0].endswith("library_child.py"):
    found = {{"found": 1, "package_version": "0.3.16", "python_version": "3.11.0", "platform": "Test",
             "libraries": [{{"path": "lib/libllama.so", "sha256": "ab" * 32}}]}}
    print("a library that prints on its own")
    print(json.dumps(found), flush=True)
    how = os.environ.get("GGML_FAKE_PROBE", "")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGILL)
    if how == "error":
        print(json.dumps({{"error": "OSError: libgomp.so.1: cannot open shared object file"}}))
        sys.exit(1)
    info = os.environ.get("GGML_FAKE_INFO", "CPU : SSE3 = 1 | SSSE3 = 1 | ")
    print(json.dumps({{"loaded": 1, "system_info": info}}))
"""


def write_fake_python(folder: Path) -> str:
    """Write the interpreter and return its path."""
    file = folder / "fakepython"
    file.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    file.chmod(0o755)
    return str(file)
