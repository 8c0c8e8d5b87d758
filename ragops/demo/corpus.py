"""Write the demo's corpus: real text that every machine has, the docstrings of the standard library.

Sources are parsed, never imported. The same Python version gives the same files.
"""

from __future__ import annotations

import ast
import inspect
import json
import platform
import sysconfig
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_text
from ragops.documents.locations import is_reserved, refusal
from ragops.errors import UsageError

MARKER = ".ragops-corpus.json"
# Shorter ones ("See base class.") repeat and have nothing to retrieve.
SHORTEST_DOCSTRING = 80
# Windows limits a whole path to 260 characters (MAX_PATH).
LONGEST_NAME = 150

# Part of the settings in the marker: raise it when the files change, so that old corpora are rewritten.
_LAYOUT = 1
# Tests, and what a Python installation may or may not have: every machine should get the same files.
_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip"}
    | {"__pycache__", "lib-dynload"}
)
_FORBIDDEN = dict.fromkeys(map(ord, '<>:"/\\|?*'), "_")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def write_stdlib_corpus(folder: Path, *, documents: int = 1500, stdlib: Path | None = None) -> int:
    """Write up to `documents` text files below `folder` and return their number.

    Each contains the qualified name, a blank line and the docstring (80 characters or more, without
    duplicates), taken in turns from all modules so that a small corpus still spreads over them. A folder
    that was written with the same settings is left unchanged; one with other settings is rewritten, touching
    only the files that its marker lists. `stdlib` is the folder of the modules, by default that of the
    running interpreter. Raises UsageError if the folder contains anything else.
    """
    settings: dict[str, object] = {
        "layout": _LAYOUT,
        "python": platform.python_version(),
        "documents": documents,
    }
    before = _read_marker(folder)
    has_all = before.is_complete and all((folder / name).is_file() for name in before.files)
    if before.settings == settings and has_all:
        return len(before.files)
    for name in before.files:
        (folder / name).unlink(missing_ok=True)
    texts = _pick(stdlib or Path(sysconfig.get_path("stdlib")), documents)
    folder.mkdir(parents=True, exist_ok=True)
    marker = _Marker(settings, is_complete=False, files=list(texts))
    # Listed before they are written, so that an interrupted run leaves no file that the next one does not know.
    (folder / MARKER).write_text(json.dumps(asdict(marker)), encoding="utf-8")
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode("utf-8"))
    (folder / MARKER).write_text(json.dumps(asdict(replace(marker, is_complete=True))), encoding="utf-8")
    return len(texts)


@dataclass(frozen=True, slots=True)
class _Marker:
    """What the demo wrote into a folder."""

    settings: dict[str, object] = field(default_factory=dict)
    is_complete: bool = False
    files: list[str] = field(default_factory=list)


def _read_marker(folder: Path) -> _Marker:
    """Return a folder's marker, an empty one for a new or empty folder. Raises UsageError for any other."""
    try:
        state = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        files = state.get("files") if isinstance(state, dict) else None
        # Anyone may have edited the marker, and the listed files may be deleted: never outside the folder.
        if isinstance(files, list) and all(isinstance(f, str) and refusal(f) is None for f in files):
            return _Marker(state.get("settings", {}), bool(state.get("is_complete")), files)
        actual = f"a damaged {MARKER}"
    except FileNotFoundError:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return _Marker()
        actual = "files that are not the demo's"
    except ValueError:
        actual = f"a damaged {MARKER}"
    raise UsageError(
        "the folder for the demo's corpus contains something else",
        where=str(folder),
        actual=actual,
        expected="a new or empty folder, or one that the demo wrote",
        hint="name another folder or empty this one",
    )


def _pick(stdlib: Path, documents: int) -> dict[str, str]:
    """Return file name → content: one docstring from each module in turn, modules sorted by name."""
    picked: dict[str, str] = {}
    taken: set[str] = set()
    seen: set[str] = set()
    modules = deque(_docstrings(stdlib, file) for file in sorted(_sources(stdlib), key=lambda file: file.parts))
    while modules and len(picked) < documents:
        module = modules.popleft()
        for top, name, text in module:
            if text in seen:
                continue
            seen.add(text)
            picked[_file_name(top, name, taken)] = f"{name}\n\n{text}\n"
            modules.append(module)
            break
    return picked


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _SKIPPED or path.name.startswith((".", "config-")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _sources(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


def _docstrings(stdlib: Path, file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (top-level module, qualified name, docstring) in the file's order."""
    # A generator per module: a small corpus takes the first docstrings of each and parses no file twice.
    parts = file.relative_to(stdlib).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # templates and samples with the suffix .py
        return
    for name, node in [(module, tree), *_definitions(tree.body, module)]:
        text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
        if len(text) < SHORTEST_DOCSTRING:
            continue
        try:
            extract_text(text)
        except Unreadable:  # escapes in a docstring may make NUL or a lone surrogate
            continue
        yield parts[0], name, text


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, _Definition]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, name)
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node.body, prefix)


def _file_name(top: str, name: str, taken: set[str]) -> str:
    """Return `<top>/<name>.txt`, valid on Windows and unique regardless of case; add it to `taken`."""
    folder = _safe(top)
    stem = _safe(name)[: LONGEST_NAME - len("~999.txt")].rstrip(". ")
    candidate, number = f"{folder}/{stem}.txt", 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{folder}/{stem}~{number}.txt"
    taken.add(candidate.lower())
    return candidate


def _safe(name: str) -> str:
    safe = name.translate(_FORBIDDEN)
    return f"_{safe}" if is_reserved(safe) else safe
