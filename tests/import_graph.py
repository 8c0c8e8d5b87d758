"""The imports of a package as its source files state them, wherever in a file they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `importer` is a module of the package, `imported` any module."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name → file, for every module below a package's folder."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = [package.name, *file.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(modules: Mapping[str, Path]) -> list[Import]:
    """Every import of every module; `from package import module` counts as an import of the module."""
    return [
        Import(name, imported, line)
        for name, file in modules.items()
        for imported, line in _imports(name, file, modules)
    ]


def find_cycle(imports: list[Import]) -> list[str]:
    """The modules of one import cycle, first and last the same; empty when there is none."""
    edges: dict[str, set[str]] = {}
    for one in imports:
        edges.setdefault(one.importer, set()).add(one.imported)
    finished: set[str] = set()
    for start in sorted(edges):
        cycle = _cycle_from(start, edges, [], finished)
        if cycle:
            return cycle
    return []


def _cycle_from(module: str, edges: Mapping[str, set[str]], trail: list[str], finished: set[str]) -> list[str]:
    if module in trail:
        return [*trail[trail.index(module) :], module]
    if module in finished:
        return []
    for target in sorted(edges.get(module, ())):
        cycle = _cycle_from(target, edges, [*trail, module], finished)
        if cycle:
            return cycle
    finished.add(module)
    return []


def _imports(name: str, file: Path, modules: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, node, is_package=file.name == "__init__.py")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in modules else base), node.lineno
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, node.lineno


def _base(name: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, node.module] if node.module else kept)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
