"""The demo's corpus: real text that every machine has, the standard library's docstrings.

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
from pathlib import Path
from typing import Any

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_text
from ragops.documents.locations import is_reserved, refusal
from ragops.errors import UsageError

MARKER = ".ragops-corpus.json"
SHORTEST_DOCSTRING = 80
LONGEST_NAME = 150

_LAYOUT = 1
_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip"}
    | {"__pycache__", "lib-dynload"}
)
_FORBIDDEN = dict.fromkeys(map(ord, '<>:"/\\|?*'), "_")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def write_stdlib_corpus(folder: Path, *, documents: int = 1500, stdlib: Path | None = None) -> int:
    """Writes up to `documents` text files below `folder` and returns how many there are.

    Each holds the qualified name, a blank line and the docstring (80 characters or more, none
    twice), taken in turns from all modules so that a small corpus still spreads over them. A
    folder that was written with the same settings is left as it is; one with other settings is
    rewritten, touching only the files that its marker lists. `stdlib` is the folder of the
    modules, that of the running interpreter by default. Raises UsageError where the folder holds
    something else.
    """
    settings = {"layout": _LAYOUT, "python": platform.python_version(), "documents": documents}
    marker = folder / MARKER
    before = _read_marker(folder)
    if before.get("settings") == settings and _is_complete(folder, before):
        return len(before["files"])
    for name in before.get("files", []):
        (folder / name).unlink(missing_ok=True)
    texts = _pick(stdlib or Path(sysconfig.get_path("stdlib")), documents)
    folder.mkdir(parents=True, exist_ok=True)
    state = {"settings": settings, "is_complete": False, "files": list(texts)}
    # Listed before they are written: an interrupted run leaves no file that nothing knows of.
    marker.write_text(json.dumps(state), encoding="utf-8")
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode("utf-8"))
    marker.write_text(json.dumps({**state, "is_complete": True}), encoding="utf-8")
    return len(texts)


def _read_marker(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        files = state.get("files") if isinstance(state, dict) else None
        # Anyone may have edited the marker, and what it lists may be deleted: never outside the folder.
        if isinstance(files, list) and all(isinstance(f, str) and refusal(f) is None for f in files):
            return dict(state)
    except FileNotFoundError:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return {}
    except ValueError:
        pass
    raise UsageError(
        "the folder for the demo's corpus holds something else",
        where=str(folder),
        actual="files that are not the demo's",
        expected="a new or empty folder, or one that the demo wrote",
        hint="name another folder or empty this one",
    )


def _is_complete(folder: Path, state: dict[str, Any]) -> bool:
    return bool(state.get("is_complete")) and all((folder / name).is_file() for name in state["files"])


def _pick(stdlib: Path, documents: int) -> dict[str, str]:
    """File name to content: one docstring from each module in turn, modules sorted by name."""
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
    """(top-level module, qualified name, docstring) in the file's order; parses when first asked."""
    parts = file.relative_to(stdlib).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # templates and samples that are no module
        return
    for name, node in [(module, tree), *_definitions(tree.body, module)]:
        text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
        if len(text) >= SHORTEST_DOCSTRING and _is_embeddable(text):
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


def _is_embeddable(text: str) -> bool:
    try:
        extract_text(text)
    except Unreadable:
        return False
    return True


def _file_name(top: str, name: str, taken: set[str]) -> str:
    """`<top>/<name>.txt`, safe on Windows and unique whatever the case; notes it in `taken`."""
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
