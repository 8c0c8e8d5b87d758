"""The demo's corpus: enough, readable, safe names, the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragops.demo.corpus import LONGEST_NAME, MARKER, write_stdlib_corpus
from ragops.documents.extraction import extract_file
from ragops.documents.locations import is_reserved
from ragops.documents.sources import open_regular
from ragops.documents.walking import walk_folder
from ragops.errors import UsageError

LONG = "A docstring that is long enough to be kept, because it has more than eighty characters in it."


def stdlib(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        file = folder / (name.replace("__in__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_real_library_has_enough(tmp_path: Path) -> None:
    written = write_stdlib_corpus(tmp_path / "corpus", documents=1600)
    assert written == 1600
    locations = list(walk_folder(tmp_path / "corpus", []))
    assert len(locations) == 1600
    assert len({location.lower() for location in locations}) == 1600
    assert len({location.split("/")[0] for location in locations}) > 100
    for location in locations:
        top, name = location.split("/")
        assert not set('<>:"\\|?*') & set(location)
        assert not is_reserved(top) and not is_reserved(name)
        assert len(name) <= LONGEST_NAME
    texts = [extract_file(open_regular(tmp_path / "corpus", location)).text for location in locations]
    assert all(len(text) > 80 for text in texts)


def test_content_order_and_what_is_skipped(tmp_path: Path) -> None:
    source = stdlib(
        tmp_path / "lib",
        alpha=f'"""{LONG} 1"""\nclass C:\n    """  {LONG} 2\n\n        More."""\n'
        f'    def m(self):\n        """{LONG} 3"""\n',
        beta=f'"""short"""\ndef f():\n    """{LONG} 1"""\nif True:\n    def g():\n        """{LONG} 4"""\n',
        pkg__in____init__=f'"""{LONG} 5"""\n',
        pkg__in__aux=f'"""{LONG} 6"""\n',
        nul=f'"""{LONG} 7"""\n',
        broken='"""unclosed',
        surrogate=f'"""{LONG} \\ud800"""\n',
        test__in__test_x=f'"""{LONG} 8"""\n',
    )
    folder = tmp_path / "corpus"
    assert write_stdlib_corpus(folder, stdlib=source) == 7
    names = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    assert names == [
        "alpha/alpha.txt",
        "beta/beta.g.txt",
        "_nul/_nul.txt",
        "pkg/pkg.txt",
        "pkg/pkg.aux.txt",
        "alpha/alpha.C.txt",
        "alpha/alpha.C.m.txt",
    ]
    assert (folder / "alpha/alpha.C.txt").read_bytes() == f"alpha.C\n\n{LONG} 2\n\nMore.\n".encode()


def test_names_that_differ_in_case_only_stay_apart(tmp_path: Path) -> None:
    source = stdlib(tmp_path / "lib", a=f'def F():\n    """{LONG} 1"""\ndef f():\n    """{LONG} 2"""\n')
    write_stdlib_corpus(tmp_path / "corpus", stdlib=source)
    assert list(walk_folder(tmp_path / "corpus", [])) == ["a/a.F.txt", "a/a.f~2.txt"]


def test_the_same_settings_reuse_and_others_rewrite(tmp_path: Path) -> None:
    source = stdlib(tmp_path / "lib", a=f'"""{LONG} 1"""\n', b=f'"""{LONG} 2"""\n')
    folder = tmp_path / "corpus"
    assert write_stdlib_corpus(folder, documents=2, stdlib=source) == 2
    (folder / "a/a.txt").write_text("edited", encoding="utf-8")
    (folder / "note.txt").write_text("the user's", encoding="utf-8")
    assert write_stdlib_corpus(folder, documents=2, stdlib=source) == 2
    assert (folder / "a/a.txt").read_text(encoding="utf-8") == "edited"
    assert write_stdlib_corpus(folder, documents=1, stdlib=source) == 1
    assert list(walk_folder(folder, [])) == ["a/a.txt", "note.txt"]
    assert LONG in (folder / "a/a.txt").read_text(encoding="utf-8")


def test_a_missing_file_or_an_interrupted_run_is_made_good(tmp_path: Path) -> None:
    source = stdlib(tmp_path / "lib", a=f'"""{LONG} 1"""\n', b=f'"""{LONG} 2"""\n')
    folder = tmp_path / "corpus"
    write_stdlib_corpus(folder, stdlib=source)
    (folder / "b/b.txt").unlink()
    assert write_stdlib_corpus(folder, stdlib=source) == 2
    assert (folder / "b/b.txt").is_file()


@pytest.mark.parametrize("marker", [None, "no json", '{"files": ["../../precious.txt"]}', '{"files": 3}', "[]"])
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    folder = tmp_path / "a" / "corpus"
    folder.mkdir(parents=True)
    (tmp_path / "precious.txt").write_text("x", encoding="utf-8")
    (folder / "own.txt").write_text("x", encoding="utf-8")
    if marker is not None:
        (folder / MARKER).write_text(marker, encoding="utf-8")
    with pytest.raises(UsageError, match="contains something else"):
        write_stdlib_corpus(folder)
    assert (tmp_path / "precious.txt").exists() and (folder / "own.txt").exists()
