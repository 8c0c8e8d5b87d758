"""`ragops init` on the tables that other programs make: what it recognises, writes and proves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import client_tables
import psycopg
import pytest
from workplace import Finished, Workplace, clean_environment, open_workplace, program

from ragops.cli.main import run
from ragops.playbook import parse_playbook
from ragops.playbook.model import Playbook


@pytest.fixture
def place(tmp_path: Path, bare_dsn: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A database with pgvector and nothing else: only what a test makes is there to be found."""
    with psycopg.connect(bare_dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    monkeypatch.chdir(tmp_path)
    for name, value in {"RAGOPS_DATA_DIR": str(tmp_path / "data"), "RAGOPS_DSN": bare_dsn}.items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with open_workplace(
        tmp_path, dsn=bare_dsn, corpus=tmp_path, model=tiny_model, gate=10, index_after=20
    ) as opened:
        # What a test does not name comes from no variable.
        del opened.variables["RAGOPS_MODEL"]
        yield opened
    for number, handler in handlers.items():
        signal.signal(number, handler)


Init = Callable[..., Finished]


@pytest.fixture
def init(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Workplace) -> Init:
    """Run the command as the program does, but in this process: starting one takes longer than the command."""

    def typed(*options: str) -> Finished:
        monkeypatch.setattr("sys.stdin", None)
        capfd.readouterr()
        code = run(["init", "-o", "p.yaml", "--json", *options])
        return Finished(code, *capfd.readouterr())

    return typed


def written(place: Workplace) -> Playbook:
    text = (place.folder / "p.yaml").read_text(encoding="utf-8")
    return parse_playbook(text, file="p.yaml", environment={})


def said(done: Finished, what: str) -> dict[str, str]:
    """Return the decision on one thing."""
    (found,) = [one for one in done.json["decisions"] if one["what"] == what]
    return dict(found)


BOOKS = (
    "CREATE TABLE books (tenant int, isbn text, title text, body text, embedding vector(32), "
    "PRIMARY KEY (tenant, isbn))",
    "INSERT INTO books SELECT n % 2, n, 'Volume ' || n || ' of the vacuum', "
    "'The planner of query ' || n || ' weighs an index scan against a sequential scan.' "
    "FROM generate_series(1, 30) n",
)


def test_the_playbook_that_init_writes_fills_the_table_and_measuring_finds_its_text_again(
    place: Workplace, init: Init, tiny_model: Path
) -> None:
    place.execute(*BOOKS)
    model = ("--model", str(tiny_model))
    first = init(*model, "--text", r"{title}\n\n{body}", "--campaign", "repair")
    assert (first.code, first.json["problems"], first.json["planned"]) == (0, [], True), first.err + first.out
    assert written(place).targets[0].text == "{title}\n\n{body}"
    assert "RAGOPS_MODEL" not in first.json["next"]
    done = place.ragops("reset", "-p", "p.yaml", "--yes")
    assert done.code == 0, done.err
    assert place.value("SELECT count(*) FROM books WHERE embedding IS NOT NULL") == 30

    place.execute("UPDATE books SET embedding = NULL WHERE isbn = '7'")
    second = init(*model, "--yes", "--force")
    assert (second.code, second.json["problems"]) == (0, []), second.err + second.out
    assert (said(second, "text")["certainty"], said(second, "campaign")["value"]) == ("measured", "repair")
    playbook = written(place)
    assert playbook.targets[0].text in ("{title}\n\n{body}", "{title} {body}", "{title}\n{body}")
    assert (playbook.model.pooling, playbook.model.file) == ("mean", tiny_model)
    assert second.json["measured"]["is_uniform"]


def test_a_repair_with_a_model_that_did_not_make_the_vectors_is_warned_of(
    place: Workplace, init: Init, tiny_model: Path
) -> None:
    place.execute(*client_tables.LANGCHAIN)
    model = ("--model", str(tiny_model))
    proposed = init(*model, "--yes")
    assert said(proposed, "campaign")["value"] == "reembed"
    assert written(place).targets[0].write == "beside"
    repair = init(*model, "--campaign", "repair", "--force")
    assert "this model made none of the sampled vectors" in repair.json["warnings"][0]
    (selected,) = [step for step in written(place).steps if step.step == "select_rows"]
    assert selected.rows == ("missing", "broken", "divergent")
    assert [target.where is None for target in written(place).targets] == [False, False]


def test_in_a_pipe_what_is_missing_is_named_at_once_and_nothing_is_written(place: Workplace, init: Init) -> None:
    place.execute(
        "CREATE TABLE notes (id int, abstract text, remarks text, embedding vector(32))",
        "INSERT INTO notes SELECT n, repeat('an abstract ', 9), repeat('some remarks ', 9) "
        "FROM generate_series(1, 9) n",
    )
    done = init("--campaign", "repair", "--yes")
    needed = done.json["error"]["needed"]
    assert done.code == 2
    assert "--text: the text that the vectors are made of" in needed and "{abstract}" in needed
    assert "--key: columns that are NOT NULL and together unique" in needed
    assert not (place.folder / "p.yaml").exists()

    wrong = init("--campaign", "repair", "--text", "{abstract}", "--key", "abstract")
    assert (wrong.code, wrong.json["error"]["what"]) == (2, "--key does not fit the table")
    wrong = init("--campaign", "repair", "--sql", "lower(nothing)", "--key", "id")
    assert wrong.code == 2 and 'column "nothing" does not exist' in wrong.json["error"]["found"]
    assert not (place.folder / "p.yaml").exists()

    right = init("--campaign", "repair", "--text", "{abstract}", "--key", "id")
    assert right.code == 0, right.err
    assert written(place).targets[0].key == ("id",)
    again = init("--campaign", "repair", "--text", "{remarks}", "--key", "id", "--yes")
    assert (again.code, again.json["error"]["what"]) == (2, "the file exists, and is not overwritten")
    assert written(place).targets[0].text == "{abstract}"


def test_what_is_no_table_of_one_vector_is_named_with_the_way(place: Workplace, init: Init) -> None:
    place.execute(
        *client_tables.QUOTED,
        'CREATE VIEW shown AS SELECT * FROM "Knowledge Base"."Doc Store"',
        "CREATE TABLE two (id int PRIMARY KEY, title text, body text, a vector(3), b halfvec(4))",
        "CREATE TABLE thin (id int PRIMARY KEY, content text, embedding sparsevec(9))",
    )
    view = init("--table", "shown")
    assert (view.code, view.json["error"]["hint"]) == (2, '--table "Knowledge Base"."Doc Store"')
    thin = init("--table", "thin")
    assert (thin.code, thin.json["error"]["what"]) == (2, "ragops writes no vectors of the type sparsevec")
    several = init("--table", "two")
    assert several.code == 2 and "public.two.a" in several.json["error"]["needed"]
    assert "--column" in several.json["error"]["needed"]
    missing = init("--table", "Two")
    assert missing.code == 2 and "public.two.b" in missing.json["error"]["needed"]


def test_a_role_that_may_only_read_gets_a_playbook_and_the_grants(
    place: Workplace, init: Init, tiny_model: Path
) -> None:
    place.execute(
        *client_tables.QUOTED,
        "DROP ROLE IF EXISTS init_reader",
        "CREATE ROLE init_reader LOGIN PASSWORD 'unseen-7'",
        'GRANT USAGE ON SCHEMA "Knowledge Base" TO init_reader',
        'GRANT SELECT ON "Knowledge Base"."Doc Store" TO init_reader',
    )
    dsn = psycopg.conninfo.make_conninfo(place.dsn, user="init_reader", password="unseen-7")
    done = init("--yes", "--campaign", "repair", "--dsn", dsn, "--model", str(tiny_model))
    place.execute("DROP OWNED BY init_reader", "DROP ROLE init_reader")
    assert done.code == 1, done.err
    assert any("UPDATE" in f"{one['what']} {one['cure']}" for one in done.json["problems"]), done.json["problems"]
    target = written(place).targets[0]
    assert (target.table, target.embedding) == ('"Knowledge Base"."Doc Store"', "Embedding %")
    assert place.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'ragops'") == 0
    assert done.json["next"].startswith("RAGOPS_DSN=… ragops reset")
    assert "unseen-7" not in (place.folder / "p.yaml").read_text() + done.out + done.err


class Terminal:
    """The real program at a pseudo-terminal: questions come on stderr, answers are typed."""

    def __init__(self, place: Workplace, *arguments: str) -> None:
        self._own, theirs = os.openpty()
        self.process = subprocess.Popen(
            [*program(), *arguments],
            env=clean_environment(place.folder) | place.variables,
            cwd=place.folder,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
        )
        place.running.append(self.process)  # type: ignore[arg-type]
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until the text was shown, and forget what came before it."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline and self.process.poll() is None, self.shown
            if not select.select([self._own], [], [], 1)[0]:
                continue
            self.shown += os.read(self._own, 4096).decode(errors="replace")
        self.shown = self.shown[self.shown.index(text) + len(text) :]

    def answer(self, question: str, typed: str) -> None:
        self.wait_for(question)
        os.write(self._own, f"{typed}\n".encode())

    def close(self) -> tuple[int, str]:
        """Return the exit code and what was printed on stdout."""
        out, _ = self.process.communicate(timeout=60)
        os.close(self._own)
        return self.process.returncode, out.decode()


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="a terminal is a pair of descriptors here")


@needs_terminal
def test_on_a_terminal_each_option_is_a_question_with_a_proposal(place: Workplace) -> None:
    place.execute(*client_tables.LANGCHAIN, "CREATE TABLE other (id int PRIMARY KEY, content text, e halfvec(3))")
    (place.folder / "repair.yaml").write_text("mine", encoding="utf-8")
    terminal = Terminal(place, "init")
    terminal.wait_for("1  public.langchain_pg_embedding.embedding")
    terminal.answer("vector column", "7")
    terminal.wait_for("type its number")
    terminal.answer("vector column", "1")
    terminal.answer("key [id]: ", "collection_id")
    terminal.wait_for("stands in several rows")
    terminal.answer("key [id]: ", "")
    terminal.answer("GGUF model", "nothing.gguf")
    terminal.wait_for("does not exist")
    terminal.answer("GGUF model", "")
    terminal.answer("campaign [repair]: ", "repare")
    terminal.wait_for("is not one of repair, reembed, realign")
    terminal.answer("campaign [repair]: ", "")
    terminal.answer("text [{document}]: ", "{docment}")
    terminal.wait_for("has no column docment")
    terminal.answer("text [{document}]: ", "")
    terminal.answer("where [", "collection_id IS NOT NUL")
    terminal.wait_for("syntax error")
    terminal.answer("where [", "collection_id IS NOT NULL")
    terminal.answer("Overwrite it?", "own.yaml")
    code, out = terminal.close()
    assert code == 0
    assert "written: own.yaml" in out
    assert (place.folder / "repair.yaml").read_text() == "mine"
    (target,) = parse_playbook((place.folder / "own.yaml").read_text(), file="own.yaml", environment={}).targets
    assert (target.text, target.where) == ("{document}", "collection_id IS NOT NULL")


@needs_terminal
def test_ctrl_c_at_a_question_writes_nothing(place: Workplace) -> None:
    place.execute(*client_tables.QUOTED)
    terminal = Terminal(place, "init", "--campaign", "repair")
    terminal.wait_for("key [Id]: ")
    terminal.process.send_signal(signal.SIGINT)
    code, out = terminal.close()
    assert (code, out) == (130, "")
    assert [path.name for path in place.folder.iterdir() if path.suffix == ".yaml"] == []
