"""The stored choice of `ragops tune`: found again only for the machine, build and model that were measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from playbook_factory import playbook as parse

from ragops.facts import HostLimits
from ragops.paths import tuning_file
from ragops.playbook import Playbook
from ragops.workers import tuned as module
from ragops.workers.tuned import Tuned, save_choice, tuned_for

CHOICE = Tuned(workers=3, threads=2, tokens_per_batch=512, repack=True)
GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine of four cores with one build, whose facts a test may change."""
    facts = SimpleNamespace(cores=4, build="0.3.16 AVX2 = 1", host="one")
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(module, "read_limits", lambda: HostLimits(facts.cores, GIB))
    monkeypatch.setattr(module, "effective_build", lambda _: facts.build)
    monkeypatch.setattr(module.socket, "gethostname", lambda: facts.host)  # type: ignore[attr-defined]
    return facts


@pytest.fixture
def book(tmp_path: Path) -> Playbook:
    (tmp_path / "m.gguf").write_bytes(b"GGUF one")
    return parse().with_changes(model={"file": tmp_path / "m.gguf"})


def test_a_choice_is_found_again(machine: SimpleNamespace, book: Playbook) -> None:
    assert tuned_for(book) is None
    assert save_choice(book, CHOICE) == tuning_file()
    assert tuned_for(book) == CHOICE
    save_choice(book, Tuned(1, 4, 128))
    assert tuned_for(book) == Tuned(1, 4, 128)
    assert [file.name for file in tuning_file().parent.iterdir()] == [tuning_file().name]


@pytest.mark.parametrize(
    ("fact", "value"), [("cores", 2), ("cores", 8), ("build", "0.3.36 AVX512 = 1"), ("host", "other")]
)
def test_a_choice_does_not_hold_for_another_machine(
    machine: SimpleNamespace, book: Playbook, fact: str, value: object
) -> None:
    before = getattr(machine, fact)
    save_choice(book, CHOICE)
    setattr(machine, fact, value)
    assert tuned_for(book) is None
    setattr(machine, fact, before)
    assert tuned_for(book) == CHOICE


def test_choices_for_models_and_interpreters_stand_side_by_side(
    machine: SimpleNamespace, book: Playbook, tmp_path: Path
) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF other")
    other_model = book.with_changes(model={"file": tmp_path / "other.gguf"})
    other_python = book.with_changes(workers={"python": tmp_path / "python"})
    save_choice(book, CHOICE)
    assert tuned_for(other_model) is None
    assert tuned_for(other_python) is None
    save_choice(other_model, Tuned(1, 1, 128))
    save_choice(other_python, Tuned(2, 1, 256))
    choices = [tuned_for(each) for each in (book, other_model, other_python)]
    assert choices == [CHOICE, Tuned(1, 1, 128), Tuned(2, 1, 256)]


def test_a_model_is_known_by_what_it_holds(machine: SimpleNamespace, book: Playbook, tmp_path: Path) -> None:
    save_choice(book, CHOICE)
    (tmp_path / "moved.gguf").write_bytes(b"GGUF one")
    assert tuned_for(book.with_changes(model={"file": tmp_path / "moved.gguf"})) == CHOICE
    (tmp_path / "m.gguf").write_bytes(b"GGUF two")
    assert tuned_for(book) is None
    (tmp_path / "m.gguf").unlink()
    assert tuned_for(book) is None
    assert tuned_for(parse()) is None


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"null", b'{"other": 1}', b'"text"', b"1e999"]
)
def test_a_damaged_file_is_as_good_as_none(machine: SimpleNamespace, book: Playbook, damage: bytes) -> None:
    tuning_file().parent.mkdir(parents=True)
    tuning_file().write_bytes(damage)
    assert tuned_for(book) is None
    save_choice(book, CHOICE)
    assert tuned_for(book) == CHOICE


@pytest.mark.parametrize("entry", ["5", "[]", "{}", '{"workers": 1}', '{"name": "x"}', "null"])
def test_a_damaged_choice_is_as_good_as_none(machine: SimpleNamespace, book: Playbook, entry: str) -> None:
    save_choice(book, CHOICE)
    text = tuning_file().read_text(encoding="utf-8")
    start = text.index("{", 1)
    tuning_file().write_text(f"{text[:start]}{entry}}}", encoding="utf-8")
    assert tuned_for(book) is None


def test_a_build_that_cannot_be_loaded(book: Playbook, tmp_path: Path) -> None:
    assert module.effective_build(book.with_changes(workers={"python": tmp_path / "missing"})) == ""
