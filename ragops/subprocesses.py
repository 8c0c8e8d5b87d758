"""Start other programs, follow their output, and end them with everything they started."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, TypedDict

import psutil

from ragops.errors import RagopsError

# Windows ends a crashed process with an NTSTATUS code, where POSIX has a signal:
# https://learn.microsoft.com/openspecs/windows_protocols/ms-erref/596a1078-e883-4972-9bbc-49e60bebca55
_WINDOWS_SIGNALS = {0xC000001D: "SIGILL", 0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT", 0xC0000094: "SIGFPE"}
# What a child may inherit, with the reason. A trailing * stands for any ending. Names are compared in capitals,
# because Windows ignores the case. Everything else stays here: a list of names to drop forgets the next secret.
_EVERY_CHILD = {
    "PATH": "the loader and the interpreter look for programs there",
    "HOME": "expanduser, and caches of libraries",
    "USER": "getpass, which some libraries call when they are imported",
    "LOGNAME": "the same",
    "LANG": "the encoding of file names and messages",
    "LANGUAGE": "the same",
    "LC_*": "the same",
    "TZ": "times in logs",
    "TMPDIR": "temporary files",
    "TEMP": "the same on Windows",
    "TMP": "the same on Windows",
    "LD_LIBRARY_PATH": "shared libraries outside the system's folders, such as CUDA's",
    "LD_PRELOAD": "an allocator or a libgomp that the machine needs",
    "DYLD_*": "both on macOS",
    "PYTHONUTF8": "how Python reads and prints text",
    "PYTHONIOENCODING": "the same",
    "PYTHONDONTWRITEBYTECODE": "a file system that may not be written to",
    "PYTHONPYCACHEPREFIX": "the same",
    "SYSTEMROOT": "Windows: Python does not start without it",
    "SYSTEMDRIVE": "Windows: the standard library builds paths from it",
    "WINDIR": "Windows: system libraries",
    "COMSPEC": "Windows: the shell that os.system starts",
    "PATHEXT": "Windows: which files are programs",
    "USERPROFILE": "Windows: expanduser",
    "HOMEDRIVE": "Windows: expanduser",
    "HOMEPATH": "Windows: expanduser",
    "APPDATA": "Windows: packages of the user",
    "LOCALAPPDATA": "Windows: temporary files and caches",
    "NUMBER_OF_PROCESSORS": "Windows: os.cpu_count",
    "PROCESSOR_*": "Windows: platform.machine",
}
_SAME_INTERPRETER = {
    "PYTHONPATH": "ragops itself and its packages, where they are not installed",
    "PYTHONHOME": "a relocated Python",
    "VIRTUAL_ENV": "names this interpreter's environment",
    "__PYVENV_LAUNCHER__": "the same on macOS",
}
_EMBEDDERS = {
    "GGML_*": "llama.cpp's devices and limits",
    "LLAMA_*": "the place of llama.cpp's library, traces",
    "CUDA_*": "which GPUs, and where CUDA is",
    "NVIDIA_*": "which GPUs a container may use",
    "HIP_*": "AMD's GPUs",
    "ROCR_*": "AMD's GPUs",
    "HSA_*": "AMD's GPUs",
    "VK_*": "Vulkan's drivers",
    "ONEAPI_*": "Intel's GPUs",
    "SYCL_*": "Intel's GPUs",
    "OMP_*": "OpenMP's threads",
    "GOMP_*": "the same, GCC's",
    "KMP_*": "the same, Intel's and LLVM's",
    "OPENBLAS_*": "numpy's threads",
    "MKL_*": "numpy's threads",
    "CMAKE_ARGS": "recorded in a fingerprint, if the build has no record of its own",
}
_BUILDS = {
    "CC": "the compiler",
    "CXX": "the compiler",
    "CUDACXX": "the compiler",
    "CUDAHOSTCXX": "the compiler",
    "HIPCXX": "the compiler",
    "CFLAGS": "its options",
    "CXXFLAGS": "its options",
    "CPPFLAGS": "its options",
    "LDFLAGS": "its options",
    "ARCHFLAGS": "its options on macOS",
    "CPATH": "headers",
    "C_INCLUDE_PATH": "headers",
    "CPLUS_INCLUDE_PATH": "headers",
    "LIBRARY_PATH": "libraries",
    "INCLUDE": "headers, Visual Studio",
    "LIB": "libraries, Visual Studio",
    "LIBPATH": "libraries, Visual Studio",
    "VS*": "where Visual Studio is",
    "VC*": "where Visual Studio is",
    "WINDOWSSDK*": "where Windows' SDK is",
    "PROGRAMFILES*": "where Visual Studio's locator is",
    "PROGRAMDATA": "the same, and pip's settings",
    "SDKROOT": "macOS' SDK",
    "DEVELOPER_DIR": "macOS' SDK",
    "MACOSX_DEPLOYMENT_TARGET": "the oldest macOS that the library has to run on",
    "CMAKE_*": "CMake's generator, toolchain and parallelism",
    "SKBUILD_*": "scikit-build-core, which calls CMake",
    "MAKEFLAGS": "how many compilers run at once",
    "PKG_CONFIG_*": "where libraries are described",
    "CCACHE_*": "a cache of compiled files",
    "VULKAN_SDK": "Vulkan's headers",
    # Such a URL may have the password of a package index or a proxy: pip cannot download without it.
    "PIP_*": "the package index",
    "HTTP_PROXY": "the way to the package index",
    "HTTPS_PROXY": "the same",
    "ALL_PROXY": "the same",
    "NO_PROXY": "the same",
    "NETRC": "the same",
    "SSL_CERT_FILE": "the certificates that the package index is checked against",
    "SSL_CERT_DIR": "the same",
    "REQUESTS_CA_BUNDLE": "the same",
    "CURL_CA_BUNDLE": "the same",
    "XDG_CONFIG_HOME": "pip's settings",
    "XDG_CACHE_HOME": "the compilers' caches",
}
# The second line: an allowed prefix or value may still hold a secret, such as LLAMA_ARG_API_KEY.
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)")
_SECRET_VALUE = re.compile(r"postgres(ql)?(\+\w+)?://|\bpass(word|wd)\s*=", re.IGNORECASE)
# Often enough for a clock of seconds that never skips one.
_TICK_S = 0.5
# A killed process is gone at once unless it is stuck in the kernel, on a dead network file system for one.
_KILL_WAIT_S = 5.0
OnTick = Callable[[str | None], None]


class SessionFlags(TypedDict):
    """Arguments of `subprocess.Popen` and `subprocess.run`."""

    start_new_session: bool
    creationflags: int


def new_session_flags() -> SessionFlags:
    """Return the arguments that keep Ctrl-C away from a child: a new session, on Windows a process group.

    The terminal sends SIGINT to all processes of its foreground group. The parent handles it and ends its
    children in order; a child that it ended directly would look like a crash.
    """
    return {
        "start_new_session": sys.platform != "win32",
        "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    }


class Purpose(Enum):
    """What a child is for, and so what it may inherit."""

    PARSER = "parser"
    """Reads other people's documents in native code: the least of all."""
    EMBEDDER = "embedder"
    """Loads llama.cpp."""
    BUILD = "build"
    """Runs pip and compilers."""


def child_environment(
    environment: Mapping[str, str], purpose: Purpose, *, own_interpreter: bool = True
) -> dict[str, str]:
    """Return what a child of ragops inherits: the variables on the list for its purpose, and no secret.

    With `own_interpreter=False`, the variables that would lead another interpreter to this one's packages are
    dropped too.
    """
    allowed = set(_EVERY_CHILD)
    if own_interpreter:
        allowed |= _SAME_INTERPRETER.keys()
    if purpose is not Purpose.PARSER:
        allowed |= _EMBEDDERS.keys()
    if purpose is Purpose.BUILD:
        allowed |= _BUILDS.keys()
    exact = {name for name in allowed if not name.endswith("*")}
    prefixes = tuple(name.removesuffix("*") for name in allowed - exact)
    kept = {}
    for name, value in environment.items():
        upper = name.upper()
        is_allowed = upper in exact or upper.startswith(prefixes)
        if is_allowed and not _SECRET_NAME.search(upper) and not _SECRET_VALUE.search(value):
            kept[name] = value
    return kept


def signal_name(returncode: int | None) -> str | None:
    """Return `SIGILL` and the like for an exit status that stands for a signal or a Windows exception."""
    if returncode is None or returncode == 0:
        return None
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:  # real-time signals have no names
            return f"signal {-returncode}"
    return _WINDOWS_SIGNALS.get(returncode)


def is_from_outside(returncode: int | None) -> bool:
    """Return whether a process was killed by somebody else, often the kernel because memory ran out (POSIX)."""
    # Nothing in a process sends itself SIGKILL. Windows has no such exit status: TerminateProcess sets any.
    return signal_name(returncode) == "SIGKILL"


def ending_of(returncode: int) -> str:
    """Return `ended by SIGKILL` or `ended with code 3`."""
    signal = signal_name(returncode)
    return f"ended by {signal}" if signal else f"ended with code {returncode}"


def run_logged(command: Sequence[str], *, environment: Mapping[str, str], log: Path, on_tick: OnTick) -> int:
    """Run a program to its end, append all output to `log`, and return the exit status.

    `on_tick` receives every line, and None when there is none for a while. If it raises, or a signal
    handler does, the program and everything it started are killed first. Raises RagopsError if the program
    cannot be started.
    """
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        try:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **new_session_flags(),
            )
        except OSError as error:
            raise RagopsError(
                "cannot start the interpreter",
                where=command[0],
                actual=error.strerror or str(error),
                expected="a Python that can create virtual environments",
                hint=f"{command[0]} --version",
            ) from error
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A thread, because pipes cannot be waited for with a timeout on Windows.
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            while True:
                try:
                    line = lines.get(timeout=_TICK_S)
                except queue.Empty:
                    file.flush()  # for whoever follows the log
                    on_tick(None)
                    continue
                if line is None:
                    return process.wait()
                file.write(line)
                on_tick(line.decode("utf-8", "replace").rstrip())
        except BaseException:
            kill_tree(process.pid)
            process.wait()
            raise


def _read_lines(source: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    for line in source:
        lines.put(line)
    lines.put(None)


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it, from the top, so that no parent starts more."""
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.Error):  # ended meanwhile
            process.kill()
    # Not the top: its parent waits for it, and two waiters would compete for its exit status.
    psutil.wait_procs(family[1:], timeout=_KILL_WAIT_S)
