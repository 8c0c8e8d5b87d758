"""Documentation and program say the same: a command, option or playbook key without its line fails here."""

from __future__ import annotations

import re
import shlex
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ragops.cli.main import app
from ragops.playbook import Playbook

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs/reference/commands.md"
KEYS = ROOT / "docs/reference/playbook.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BENCHMARK_OPTIONS = {
    option
    for program in (ROOT / "benchmarks").glob("*.py")
    for option in re.findall(r'add_argument\("(--[a-z-]+)"', program.read_text(encoding="utf-8"))
}
# Options in the documents that belong to other programs: pip, vecshift, py-spy, ruff, and the script that captures
# a fingerprint.
FOREIGN_OPTIONS = {"--no-cache-dir", "--no-binary", "--no-index", "--force-reinstall", "--gil", "--check"} | {
    f"--{name}"
    for name in ("pooling", "attention", "n-ctx", "n-batch", "document-prefix", "query-prefix", "document-suffix")
}
# Options of the logger that the command line gets next.
# Typer carries its own copy of click, so that its commands have no public type.
ROOT_COMMAND: Any = typer.main.get_command(app)


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by its words (`index drop`); groups are left out."""
    for name in command.list_commands(None):
        child = command.get_command(None, name)
        if hasattr(child, "list_commands"):
            yield from _commands(child, (*words, name))
        else:
            yield " ".join((*words, name)), child


LEAVES: dict[str, Any] = dict(_commands(ROOT_COMMAND))
GROUPS = sorted({words.split()[0] for words in LEAVES if " " in words})


def _long_options(command: Any) -> set[str]:
    options = (o for o in command.params if o.param_type_name == "option")
    return {spelling for o in options for spelling in o.opts if spelling.startswith("--")}


ALL_OPTIONS = set().union(*map(_long_options, [ROOT_COMMAND, *LEAVES.values()])) | {"--help"}


# Options of every command stand in the reference once.
SHARED = {"--debug", "--log-file", "--log-format", "--help"}


def _section(text: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.split(" ")[0]
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading {heading!r}"
    return found[1]


def _words_of(line: str) -> str:
    """The words of the command that a line runs. Fails when there is no such command."""
    arguments = shlex.split(line)
    place = arguments.index("ragops") if "ragops" in arguments else -1
    if place < 0:
        # Within a substitution: psql "$(ragops db url)".
        inner = re.search(r"\$\((ragops [^)]*)\)", line)
        assert inner is not None, f"no ragops in {line!r}"
        return _words_of(inner[1])
    plain = [word for word in arguments[place + 1 :] if not word.startswith("-")]
    words = next((w for w in (" ".join(plain[:2]), plain[0]) if w in LEAVES), None)
    assert words is not None, f"no such command: {line!r}"
    options = {word.split("=")[0] for word in arguments[place + 1 :] if word.startswith("--")}
    known = _long_options(LEAVES[words]) | _long_options(ROOT_COMMAND) | {"--help"}
    assert options <= known, f"{line!r}: {options - known}"
    return words


@pytest.mark.parametrize("words", LEAVES)
def test_the_reference_has_every_command_with_its_options(words: str) -> None:
    section = _section(COMMANDS.read_text(encoding="utf-8"), f"## ragops {words}")
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE))
    options = _long_options(LEAVES[words]) | {"--help"}
    assert options >= SHARED
    assert documented == options - SHARED


@pytest.mark.parametrize("words", LEAVES)
def test_the_reference_has_the_help_s_example(words: str) -> None:
    section = _section(COMMANDS.read_text(encoding="utf-8"), f"## ragops {words}")
    assert _example(LEAVES[words]) in section


def test_the_reference_has_the_program_s_own_options() -> None:
    text = COMMANDS.read_text(encoding="utf-8").split("## Which database")[0]
    assert {o for o in _long_options(ROOT_COMMAND) if f"| `{o}` |" not in text} == set()


def test_the_reference_has_the_options_of_every_command() -> None:
    section = _section(COMMANDS.read_text(encoding="utf-8"), "## Options of every command")
    assert set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE)) == SHARED


def test_the_reference_has_no_other_command() -> None:
    headings = re.findall(r"^## ragops (.+)$", COMMANDS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(LEAVES)


def _example(command: Any) -> str:
    text = " ".join(filter(None, [command.help, command.epilog]))
    found = re.search(r"Example: (.+)", text)
    assert found is not None, "no Example: line in the help"
    return found[1].strip()


@pytest.mark.parametrize("words", LEAVES)
def test_every_help_has_an_example_of_its_command(words: str) -> None:
    assert _words_of(_example(LEAVES[words])) == words


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_an_example(group: str) -> None:
    assert _words_of(_example(ROOT_COMMAND.get_command(None, group))).startswith(f"{group} ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_mentions_an_option_that_does_not_exist(document: Path) -> None:
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", document.read_text(encoding="utf-8")))
    assert mentioned - ALL_OPTIONS - FOREIGN_OPTIONS - BENCHMARK_OPTIONS == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_in_a_code_block_exists(document: Path) -> None:
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    for line in lines:
        found = re.match(
            r"(?:\$ )?(?:[A-Z_]+=\S+ )*(ragops [a-z]+(?: [^;#]*)?$)", line.split(";")[0].split("#")[0].rstrip()
        )
        if found and "[" not in found[1]:
            _words_of(found[1])


def test_the_readme_has_the_four_lines_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for line, words in {
        "ragops reset --playbook realign.yaml": "reset",
        "ragops embed --workers 3": "embed",
        "ragops validate --after 1000": "validate",
        "ragops index rebuild": "index rebuild",
    }.items():
        assert f"\n{line}\n" in text
        assert _words_of(line) == words
    assert "\npip install '.[embedded]' && ragops demo\n" in text
    assert "\npip install '.[test]' && pytest\n" in text


def test_the_readme_names_every_command() -> None:
    rows = re.findall(r"^\| `ragops ([a-z]+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(ROOT_COMMAND.list_commands(None))


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models within an annotation, and whether they stand in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
        return
    is_list = get_origin(annotation) is tuple
    for argument in get_args(annotation) if get_origin(annotation) is not None or _is_union(annotation) else ():
        yield from ((model, is_list or inner) for model, inner in _models(argument))


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key by its path; the keys of a step stand below its verb."""
    for name, field in model.model_fields.items():
        if name == "step":
            continue
        yield f"{prefix}{name}", field
        for inner, is_list in _models(field.annotation):
            verb = get_args(inner.model_fields["step"].annotation)[0] if "step" in inner.model_fields else None
            path = f"{verb}." if verb else f"{prefix}{name}{'[]' if is_list else ''}."
            yield from _keys(inner, path)


def _documented_keys() -> dict[str, str]:
    """Path → what the column of defaults says."""
    rows = re.findall(r"^\| `([^`]+)` \| .*? \| (required|`.*?`|[^|]*) \| [^|]*\|$", _keys_text(), re.MULTILINE)
    return dict(rows)


def _keys_text() -> str:
    return KEYS.read_text(encoding="utf-8")


FIELDS = dict(_keys(Playbook))
VERBS = [
    get_args(model.model_fields["step"].annotation)[0]
    for model, _ in _models(Playbook.model_fields["steps"].annotation)
]


def test_the_walk_finds_keys_of_every_kind() -> None:
    found = FIELDS.keys()
    assert {"version", "model.parameters.n_ctx", "tables.documents.columns.id", "indexes[].m"} <= found
    assert {"empty_tables.tables[].method", "embed.until", "rebuild_indexes.concurrently"} <= found


def test_the_reference_has_every_playbook_key() -> None:
    assert sorted(_documented_keys()) == sorted(FIELDS)


@pytest.mark.parametrize(("path", "field"), FIELDS.items(), ids=FIELDS)
def test_the_reference_has_every_default(path: str, field: FieldInfo) -> None:
    documented = _documented_keys()[path]
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    if field.is_required():
        assert documented == "required"
    elif isinstance(default, BaseModel) or (isinstance(default, tuple) and any(_models(field.annotation))):
        assert not documented.startswith("`{")
    else:
        assert yaml.safe_load(documented.strip("`")) == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_has_every_step(verb: str) -> None:
    assert f"`step: {verb}`" in _section(_keys_text(), f"### steps: {verb}")


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_internal_links_resolve(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_document_is_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [str(p) for p in DOCUMENTS if p.parent != ROOT and str(p.relative_to(ROOT)) not in text] == []


def test_the_changelog_has_an_unreleased_section_with_additions() -> None:
    unreleased = _section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "## [Unreleased]")
    assert re.search(r"^### Added\n\n- ", unreleased, re.MULTILINE)
