"""Isolated builds of llama-cpp-python: one folder each, complete once `build.json` is in it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ragops.builds.cmake_flags import parse_flags
from ragops.builds.library import Library
from ragops.errors import RagopsError, UsageError
from ragops.findings import Finding
from ragops.paths import data_folder

RECORD = "build.json"
LOG = "install.log"
VENV = "venv"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!]*")

Verdict = Literal["as_asked", "differs", "unusable"]


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """A complete build: what was asked for, and what the loaded library says."""

    name: str
    version: str
    cmake_args: tuple[str, ...]
    created_at: datetime
    folder: Path
    python_version: str
    platform: str
    compiler: str
    seconds: float
    system_info: str
    features: Mapping[str, str]
    """Effective; empty when the library died while it was loaded."""
    libraries: tuple[Library, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def interpreter(self) -> Path:
        """The interpreter that loads this build."""
        return interpreter_of(self.folder)

    @property
    def verdict(self) -> Verdict:
        """unusable (does not run on the machine that made it), differs from what was asked, or as_asked."""
        if any(finding.severity == "error" for finding in self.findings):
            return "unusable"
        return "differs" if any(finding.severity == "warning" for finding in self.findings) else "as_asked"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with what follows from the rest: interpreter and verdict."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            **values,
            "cmake_args": list(self.cmake_args),
            "created_at": self.created_at.isoformat(timespec="seconds"),
            "folder": str(self.folder),
            "features": dict(self.features),
            "libraries": [asdict(library) for library in self.libraries],
            "findings": [asdict(finding) for finding in self.findings],
            "interpreter": str(self.interpreter),
            "verdict": self.verdict,
        }


def builds_folder() -> Path:
    """Where builds are kept; a folder each."""
    return data_folder() / "builds"


def folder_of(name: str) -> Path:
    """A build's folder, whether it exists or not. Raises UsageError when `name` is none."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "not a name for a build",
            actual=repr(name),
            expected="letters, digits, dot, dash and underscore; up to 64",
        )
    return builds_folder() / name


def interpreter_of(folder: Path, *, platform: str = sys.platform) -> Path:
    """The interpreter of a build's virtual environment: below `Scripts` on Windows, `bin` elsewhere."""
    place = ("Scripts", "python.exe") if platform == "win32" else ("bin", "python")
    return folder.joinpath(VENV, *place)


def default_name(version: str, cmake_args: Sequence[str]) -> str:
    """`0.3.16-default`, or the version and a short hash of what the arguments set, in any order."""
    if not cmake_args:
        return f"{version}-default"
    flags = parse_flags(cmake_args)
    others = [word for word in cmake_args if not parse_flags([word])]
    settings = "\n".join([*(f"{name}={value}" for name, value in sorted(flags.items())), *others])
    return f"{version}-{hashlib.sha256(settings.encode()).hexdigest()[:7]}"


def check_version(version: str) -> str:
    """The version itself. Raises UsageError for what is no exact version."""
    if not _VERSION.fullmatch(version):
        raise UsageError(
            "not an exact version",
            where="--version",
            actual=repr(version),
            expected="e.g. 0.3.16, without == or ranges",
        )
    return version


def list_builds() -> list[BuildRecord]:
    """The complete builds, by name."""
    return [record for folder in _folders() if (record := read_record(folder)) is not None]


def list_incomplete() -> list[str]:
    """Names of folders without a record: broken off, failed, or being installed right now."""
    return [folder.name for folder in _folders() if read_record(folder) is None]


def find_build(name: str) -> BuildRecord:
    """The build of that name. Raises UsageError, listing what there is, when it is not there or not whole."""
    folder = folder_of(name)
    record = read_record(folder)
    if record is None:
        state = "the build is not complete" if folder.is_dir() else "there is no build of that name"
        raise UsageError(state, where=str(folder), actual=_names(), hint=f"ragops build install --name {name} …")
    if not record.interpreter.exists():
        raise UsageError(
            "the build's interpreter is gone",
            where=str(record.interpreter),
            expected="the Python that the build was made with",
            hint=f"ragops build remove {name}   then install it again",
        )
    return record


def check_removable(name: str) -> Path:
    """The folder of a build, whole or not. Raises UsageError when there is none."""
    folder = folder_of(name)
    if not folder.is_dir():
        raise UsageError("there is no build of that name", where=str(folder), actual=_names())
    return folder


def remove_build(name: str) -> Path:
    """Delete a build, whole or not, and return its folder.

    Raises UsageError when there is none, RagopsError when a file of it is held open.
    """
    folder = check_removable(name)
    (folder / RECORD).unlink(missing_ok=True)  # first: half a build must not look whole
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise RagopsError(
            "the build could not be removed whole",
            where=str(error.filename or folder),
            actual=error.strerror or str(error),
            hint=f"end the processes that run under it, then: ragops build remove {name}",
        ) from error
    return folder


def write_record(record: BuildRecord) -> None:
    """Make the build complete: its record appears at once and whole."""
    text = json.dumps(record.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    partial = record.folder / f"{RECORD}.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(record.folder / RECORD)


def read_record(folder: Path) -> BuildRecord | None:
    """The folder's record; None when there is none, or none that this version of ragops understands."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return BuildRecord(
            name=folder.name,
            version=str(stored["version"]),
            cmake_args=tuple(stored["cmake_args"]),
            created_at=datetime.fromisoformat(stored["created_at"]),
            folder=folder,
            python_version=str(stored["python_version"]),
            platform=str(stored["platform"]),
            compiler=str(stored["compiler"]),
            seconds=float(stored["seconds"]),
            system_info=str(stored["system_info"]),
            features=dict(stored["features"]),
            libraries=tuple(Library(**library) for library in stored["libraries"]),
            findings=tuple(Finding(**finding) for finding in stored["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folders() -> list[Path]:
    root = builds_folder()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _names() -> str:
    names = [record.name for record in list_builds()]
    return f"builds: {', '.join(names)}" if names else "no build yet"
