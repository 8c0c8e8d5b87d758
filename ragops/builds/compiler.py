"""Find the C++ compiler that a build needs before anything is downloaded, or what to install."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from ragops.errors import RagopsError
from ragops.subprocesses import Purpose, child_environment

Which = Callable[[str], str | None]
# In the order in which CMake tries them.
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
_ELSEWHERE = "install gcc and g++ (or clang) with the system's package manager"
# What to do on systems without one of these package managers.
_HINTS = {
    "Windows": "install Visual Studio Build Tools 2022 with the workload “Desktop development with C++”, "
    "then open a new terminal",
    "Darwin": "xcode-select --install",
}


def find_compiler(
    environment: Mapping[str, str], *, which: Which = shutil.which, system: str | None = None
) -> str:
    """Return the C++ compiler that CMake will most likely use, for messages.

    Raises RagopsError, with what to install on this system, if there is none. A compile without one fails
    minutes later, after the source was downloaded and unpacked.
    """
    system = system or platform.system()
    for variable in ("CC", "CXX"):
        words = environment.get(variable, "").split()
        if words and which(words[0]) is None:
            raise RagopsError(
                f"the compiler in {variable} does not exist; nothing was downloaded",
                where=variable,
                actual=words[0],
                expected="a compiler on PATH, or its absolute path",
                hint=f"correct {variable}, or unset it to let CMake search for one",
            )
    if environment.get("CXX") and (environment.get("CC") or _first(_C, which)):
        return environment["CXX"]
    compiler = _studio(environment, which) if system == "Windows" else _first(_CPP, which)
    if system != "Windows" and _first(_C, which) is None:
        compiler = None
    # macOS has stubs at /usr/bin/c++ that only offer to install the tools.
    if system == "Darwin" and compiler and compiler.startswith("/usr/bin/"):
        compiler = compiler if _output_of(["xcode-select", "-p"]) else None
    if compiler is None:
        packages = next((text for manager, text in _PACKAGES if which(manager)), None)
        sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
        hint = f"{sudo}{packages}" if packages else _ELSEWHERE
        raise RagopsError(
            "no C++ compiler was found; nothing was downloaded",
            where=system,
            actual=f"none of {', '.join((*_C, *_CPP, 'cl'))} on PATH",
            expected="a C and a C++ compiler: llama.cpp is compiled from source",
            hint=_HINTS.get(system, hint),
        )
    return compiler


def is_gcc(compiler: str) -> bool:
    """Return whether a C++ compiler is GCC; `c++` and `cc` are Clang on macOS and FreeBSD."""
    return "Free Software Foundation" in _output_of([*compiler.split(), "--version"])


def _studio(environment: Mapping[str, str], which: Which) -> str | None:
    """Return `cl` of a developer terminal, MinGW or Clang on PATH, or the Visual Studio that vswhere finds."""
    on_path = which("cl") or (_first(_CPP, which) if _first(_C, which) else None)
    if on_path:
        return on_path
    # Visual Studio's installer puts vswhere into this folder since 2017:
    # https://github.com/microsoft/vswhere/wiki/Installing
    root = environment.get("ProgramFiles(x86)") or environment.get("ProgramFiles", "")
    locator = Path(root) / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not root or not locator.is_file():
        return None
    component = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    query = ["-latest", "-products", "*", "-requires", component, "-property", "installationPath"]
    return _output_of([str(locator), *query]) or None


def _output_of(command: list[str]) -> str:
    """Return what a command prints; empty if it fails or does not exist."""
    try:
        done = subprocess.run(
            command,
            env=child_environment(os.environ, Purpose.BUILD),
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _first(names: tuple[str, ...], which: Which) -> str | None:
    return next((path for name in names if (path := which(name))), None)
