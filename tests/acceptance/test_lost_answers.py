"""Single commands whose COMMIT worked, and only its answer was lost: typed again, nothing is done twice."""

from __future__ import annotations

from pg_frames import Frame
from tcp_proxy import Break, How, Link, TcpProxy, running_proxy, runs
from workplace import Finished, Workplace


def losing_the_answer(proxy: TcpProxy, place: Workplace, pattern: str, *arguments: str) -> Finished:
    """Run a command, and cut its connection at the answer to the COMMIT of what the pattern finds."""
    armed: list[Link] = []
    lost: list[Link] = []

    def rule(link: Link, frame: Frame) -> Break | None:
        if runs(frame, pattern):
            armed.append(link)
        is_answer = frame.from_server and frame.tag == b"C" and frame.text == "COMMIT"
        if is_answer and link in armed and not lost:
            lost.append(link)
            return Break(How.CLOSE)
        return None

    proxy.rule = rule
    done = place.ragops(*arguments, RAGOPS_DSN=proxy.dsn())
    proxy.rule = None
    assert lost, "the answer was not lost"
    return done


def test_tables_emptied_with_a_lost_answer_and_typed_again(place: Workplace) -> None:
    first = place.reset()
    assert first.code == 0, first.err
    with running_proxy(place.dsn) as proxy:
        emptied = losing_the_answer(proxy, place, r"(?m)^TRUNCATE", "tables", "empty", "--yes")
        assert emptied.code == 1
        assert "the database went away during the command" in emptied.err
        assert place.value("SELECT count(*) FROM documents") == 0

        assert place.ragops("tables", "empty", "--yes").code == 0
        undone = losing_the_answer(proxy, place, r"(?m)^INSERT INTO .*documents", "undo", "--yes", "--json")

    assert undone.code == 0, undone.err
    # It says what it did, not that it was done before.
    assert not undone.json["was_undone"]
    assert undone.json["rows"]["public.documents"] == 120
    assert place.value("SELECT count(*) FROM documents") == 120
    assert place.queue() == {"completed": 120}


def test_an_undo_without_an_index_to_build_whose_answer_is_lost(place: Workplace) -> None:
    assert place.ragops("queue", "reseed").code == 0
    assert place.ragops("embed").code == 0
    assert place.ragops("tables", "empty", "--yes").code == 0
    with running_proxy(place.dsn) as proxy:
        undone = losing_the_answer(proxy, place, r"(?m)^INSERT INTO .*documents", "undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert not undone.json["was_undone"]
    assert undone.json["rows"]["public.documents"] == 120
