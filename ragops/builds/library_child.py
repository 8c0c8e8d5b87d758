"""Print as JSON lines what an interpreter's llama.cpp library is; runs under that interpreter.

Standalone: the standard library and `standalone.py`, Python 3.9 and later. It loads the library itself and nothing
else of the package. The first line (`found`) is written before the library is loaded, so that it arrives
even if loading ends in an illegal instruction; the second (`loaded`) holds what the library reports.
"""

from __future__ import annotations

import ctypes
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


def library_folder() -> Path:
    """Return the folder of the package's libraries; LLAMA_CPP_LIB_PATH overrides it as it does there."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override:
        return Path(override)
    # find_spec does not import the package, which would load the library.
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'llama_cpp'")
    return Path(spec.origin).parent / "lib"


def libraries(folder: Path) -> list[dict[str, str]]:
    """Return the library files with their SHA-256; of equal copies the one with the shortest name.

    Wheels hold no symbolic links, so libllama.so, libllama.so.0 and libllama.so.0.5.0 are whole copies.
    """
    # By its path and not by its name: its folder must not stand in sys.path, where names of files beside
    # it would shadow modules that the package imports.
    spec = importlib.util.spec_from_file_location("standalone", Path(__file__).with_name("standalone.py"))
    assert spec is not None and spec.loader is not None
    standalone: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standalone)
    paths = {}
    for file in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name), reverse=True):
        if file.is_file() and {*SUFFIXES} & {*file.suffixes}:
            paths[standalone.sha256_of(file)] = str(file)
    return [{"path": path, "sha256": digest} for digest, path in sorted(paths.items(), key=lambda item: item[1])]


def load(folder: Path) -> Any:
    """Load the library of llama.cpp. Raises OSError if it is missing or cannot be loaded."""
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"no llama library in {folder}")
    if sys.platform == "win32":
        # Since Python 3.8 Windows searches neither PATH nor a DLL's own folder for what the DLL needs.
        os.add_dll_directory(str(folder))
        return ctypes.CDLL(str(file), winmode=0)
    return ctypes.CDLL(str(file))


def report(values: dict[str, object]) -> None:
    # Flushed: a line in a buffer is lost when the library kills the process.
    print(json.dumps(values), flush=True)  # noqa: T201


def main() -> int:
    """Print the lines; return 1 after an `error` line."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    try:
        folder = library_folder()
        report(
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
        report({"loaded": 1, "system_info": library.llama_print_system_info().decode("utf-8", "replace")})
    except (ImportError, OSError, AttributeError) as error:
        report({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
