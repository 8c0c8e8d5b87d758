"""The C++ compiler that a build needs: found before anything is downloaded, or what to install."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from ragops.errors import RagopsError

Which = Callable[[str], str | None]
_C = ("cc", "gcc", "clang")
_CPP = ("c++", "g++", "clang++")
_PACKAGES = (
    ("apt-get", "apt install build-essential"),
    ("dnf", "dnf install gcc gcc-c++ make"),
    ("yum", "yum install gcc gcc-c++ make"),
    ("zypper", "zypper install gcc gcc-c++ make"),
    ("pacman", "pacman -S base-devel"),
    ("apk", "apk add build-base linux-headers"),
)
_STUDIO = (
    "install Visual Studio Build Tools 2022 with the workload “Desktop development with C++”, "
    "then open a new terminal"
)


def find_compiler(
    environment: Mapping[str, str], *, which: Which = shutil.which, system: str | None = None
) -> str:
    """The C++ compiler that CMake will most likely take, for people.

    Raises RagopsError, with what to install on this system, when there is none.
    """
    system = system or platform.system()
    for variable in ("CC", "CXX"):
        named = environment.get(variable, "").split()
        if named and which(named[0]) is None:
            raise _named_but_missing(variable, named[0])
    if environment.get("CXX") and (environment.get("CC") or _first(_C, which)):
        return environment["CXX"]
    found = _studio(environment, which) if system == "Windows" else _unix(which, system)
    if found is None:
        raise RagopsError(
            "no C++ compiler was found; nothing was downloaded",
            where=system,
            actual=f"none of {', '.join((*_C, *_CPP, 'cl'))} on PATH",
            expected="a C and a C++ compiler: llama.cpp is compiled from source",
            hint=_install_hint(system, which),
        )
    return found


def is_gcc(compiler: str) -> bool:
    """Whether a C++ compiler is GCC, by its own word."""
    return "Free Software Foundation" in _reported([*compiler.split(), "--version"])


def _unix(which: Which, system: str) -> str | None:
    c, cpp = _first(_C, which), _first(_CPP, which)
    if c is None or cpp is None:
        return None
    # macOS has stubs at /usr/bin/cc that only ask for the tools to be installed.
    if system == "Darwin" and cpp.startswith("/usr/bin/") and not _has_command_line_tools():
        return None
    return cpp


def _studio(environment: Mapping[str, str], which: Which) -> str | None:
    """`cl` in a developer terminal, MinGW or Clang on PATH, or Visual Studio as its own locator finds it."""
    on_path = which("cl") or (_first(_CPP, which) if _first(_C, which) else None)
    if on_path:
        return on_path
    root = environment.get("ProgramFiles(x86)") or environment.get("ProgramFiles", "")
    locator = Path(root) / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not root or not locator.is_file():
        return None
    component = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    asked = [str(locator), "-latest", "-products", "*", "-requires", component, "-property", "installationPath"]
    return _reported(asked) or None


def _has_command_line_tools() -> bool:
    return bool(_reported(["xcode-select", "-p"]))


def _reported(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _first(names: tuple[str, ...], which: Which) -> str | None:
    return next((path for name in names if (path := which(name))), None)


def _install_hint(system: str, which: Which) -> str:
    if system == "Windows":
        return _STUDIO
    if system == "Darwin":
        return "xcode-select --install"
    command = next((text for manager, text in _PACKAGES if which(manager)), None)
    if command is None:
        return "install gcc and g++ (or clang) with the system's package manager"
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return command if is_root else f"sudo {command}"


def _named_but_missing(variable: str, program: str) -> RagopsError:
    return RagopsError(
        f"the compiler that {variable} names does not exist; nothing was downloaded",
        where=variable,
        actual=program,
        expected="a compiler on PATH, or its whole path",
        hint=f"correct {variable}, or unset it to let CMake look for one",
    )
