"""Says as JSON lines what an interpreter's llama.cpp library is: a program, run under that interpreter.

Standalone: the standard library only, Python 3.9 and later. It loads the library itself and nothing
else of the package. The first line (`found`) is written before the library is loaded, so that it is
there even when loading ends in an illegal instruction; the second (`loaded`) holds what it says.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

NAMES = ("libllama.so", "libllama.dylib", "llama.dll", "libllama.dll")
SUFFIXES = (".so", ".dylib", ".dll")


def forget_own_folder() -> None:
    """The names beside this file must shadow nothing."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]


def library_folder() -> Path:
    """Where the package looks for its libraries; LLAMA_CPP_LIB_PATH overrides it as it does there."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override:
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'llama_cpp'")
    return Path(spec.origin).parent / "lib"


def libraries(folder: Path) -> list[dict[str, str]]:
    """The library files with their SHA-256; of equal copies the one with the shortest name."""
    found: dict[str, str] = {}
    for file in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name), reverse=True):
        if file.is_file() and any(suffix in file.suffixes for suffix in SUFFIXES):
            found[hashlib.sha256(file.read_bytes()).hexdigest()] = str(file)
    return [{"path": path, "sha256": digest} for digest, path in sorted(found.items(), key=lambda item: item[1])]


def load(folder: Path) -> Any:
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"no llama library in {folder}")
    if sys.platform == "win32":
        os.add_dll_directory(str(folder))
        return ctypes.CDLL(str(file), winmode=0)
    return ctypes.CDLL(str(file))


def info(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201


def main() -> int:
    forget_own_folder()
    try:
        folder = library_folder()
        info(
            {
                "found": 1,
                "package_version": importlib.metadata.version("llama-cpp-python"),
                "python_version": platform.python_version(),
                "platform": " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
                "libraries": libraries(folder),
            }
        )
        library = load(folder)
        library.llama_print_system_info.restype = ctypes.c_char_p
        info({"loaded": 1, "system_info": library.llama_print_system_info().decode("utf-8", "replace")})
    except (ImportError, OSError, AttributeError) as error:
        info({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
