"""Read what a build of llama.cpp is, also where ragops is not installed.

The child programs load this file under other interpreters, and the capture script and the reinstall
script carry its text to other machines: it keeps to the standard library and to Python 3.9, and imports
nothing of ragops.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

# Written by `ragops build install` beside the virtual environment of a build.
RECORD = "build.json"


def parse_system_info(info: str) -> dict[str, str]:
    """Return the features in a string of `llama_print_system_info()`: `AVX2`, but `CUDA.USE_GRAPHS`.

    The CPU's features keep their bare names, other backends' features are prefixed with the backend's
    name. Older builds of llama.cpp print the CPU's features without a backend.
    """
    features = {}
    backend = "CPU"
    for entry in info.split("|"):
        name, equals, value = entry.partition("=")
        if not equals:
            continue
        # Backends follow each other without a separator ("Metal : " + "CPU : SSE3 = 1 | "), so a backend
        # without features leaves its name before the next one's: only the last name is the owner's.
        *backends, feature = [word.strip() for word in name.split(":")]
        backend = backends[-1] if backends else backend
        features[feature if backend == "CPU" else backend + "." + feature] = value.strip()
    return features


def recorded_cmake_args(prefix: Path) -> str | None:
    """Return the CMAKE_ARGS of the build in the virtual environment `prefix`; None if nothing records them.

    A build's own record comes first, then the environment variable, which pip passes on and forgets.
    """
    for folder in (prefix, prefix.parent):
        record = folder / RECORD
        if record.is_file():
            arguments = json.loads(record.read_text(encoding="utf-8")).get("cmake_args")
            return " ".join(arguments) if isinstance(arguments, list) else arguments
    return os.environ.get("CMAKE_ARGS") or None


def library_files(package: Path) -> list[dict[str, object]]:
    """Return name, size and SHA-256 of the shared libraries below a package's folder."""
    files = [path for path in sorted(package.rglob("*")) if path.suffix in (".so", ".dll", ".dylib")]
    return [
        {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in files
        if file.is_file()
    ]


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:  # hashlib.file_digest needs Python 3.11
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
