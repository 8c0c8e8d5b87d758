"""Random playbooks: each is accepted or refused with its problems; no other exception gets out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from playbook_factory import SMALLEST

from ragops.errors import PlaybookError, UsageError
from ragops.playbook import find_playbook, load_playbook
from ragops.postgres.statements import identifiers_of

# The whole number takes minutes; a part of it runs with every suite.
COUNTS = [pytest.param(400, id="some"), pytest.param(10_000, id="all", marks=pytest.mark.slow)]
SCALARS = (
    *("", "~", "null", "true", "yes", "0", "-1", "1", "0o17", "0x1F", "1_000", "1:30", "1e400", "-0.0"),
    *(".inf", ".nan", "9" * 400, "1" * 5000, "2024-02-30", "2024-01-01", "=", "<<", "!!binary aGk=", "!!float x"),
    *("!!python/name:os", "*a", "&a b", "${X}", "${X:-}", "${", "${X:-${Y}}", "$", "'", '"', '"\\ud800"', '"\\0"'),
    *("'%s'", "'{}'", "\u2028", "😀", "\ufeff", "\x85", "\x07", "[]", "{}", "[[[[]]]]", "{a: {b: {c: 1}}}"),
    *("{? [a] : b}", "- - -", "? x", "|", ">-", "auto", "planned", "embed", "validate", "reset"),
    *("public.documents", "'a.b.c'", "vector(3)", "/", "..", "C:\\x"),
)
PLAIN = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    float("nan"),
    float("-inf"),
    "",
    "embed",
    "a" * 300,
    "\x00",
    "日本",
    "${X}",
    "%s",
)
CHARACTERS = "\t \n:-?#&*!|>'\"%@`{}[],~0a${}\x00\x1b\x85\u2028\ufeff\ud800é日😀"


def shipped() -> str:
    return find_playbook("realign").read_text(encoding="utf-8")


def swap_characters(rng: random.Random, text: str) -> str:
    places = list(text)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(places) or 1)
        places[at : at + rng.randint(0, 3)] = rng.choices(CHARACTERS, k=rng.randint(0, 3))
    return "".join(places)


def swap_lines(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = " " * rng.randint(0, 9) + lines[at].lstrip()
        else:
            lines[at] = lines[at][: rng.randint(0, len(lines[at]))]
    return "\n".join(lines)


def swap_values(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    candidates = [number for number, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    for at in rng.sample(candidates, min(len(candidates), rng.randint(1, 4))):
        lines[at] = lines[at].split(":", 1)[0] + ": " + rng.choice(SCALARS)
    return "\n".join(lines)


def swap_structures(rng: random.Random, text: str) -> str:
    """Valid YAML whose mappings and lists hold other things than they should."""
    whole = yaml.safe_load(text)

    def changed(node: object, depth: int = 0) -> object:
        if rng.random() < 0.06 + depth * 0.02:
            return anything(rng)
        if isinstance(node, dict):
            keys = [key if rng.random() > 0.03 else anything_plain(rng) for key in node]
            return {key: changed(value, depth + 1) for key, value in zip(keys, node.values(), strict=True)}
        if isinstance(node, list):
            return [changed(value, depth + 1) for value in node]
        return node

    return yaml.safe_dump(changed(whole), allow_unicode=rng.random() < 0.5)


def anything_plain(rng: random.Random) -> object:
    return rng.choice(PLAIN)


def anything(rng: random.Random, depth: int = 0) -> object:
    if depth < 4 and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [anything(rng, depth + 1) for _ in range(rng.randint(0, 3))]
        return {str(anything_plain(rng)): anything(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    return anything_plain(rng)


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randint(0, len(text))]


def noise(rng: random.Random, text: str) -> str:
    return "".join(rng.choices(CHARACTERS, k=rng.randint(0, 200)))


def nested(rng: random.Random, text: str) -> str:
    return text + "\ndescription: " + rng.choice("[{") * rng.randint(1, 3000)


MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    swap_characters, swap_lines, swap_values, swap_structures, cut, noise, nested,
)  # fmt: skip
WEIGHTS = (25, 20, 25, 25, 3, 1, 1)


@pytest.mark.parametrize("count", COUNTS)
def test_a_random_playbook_is_accepted_or_refused(count: int, tmp_path: Path) -> None:
    whole, file = shipped(), tmp_path / "p.yaml"
    accepted = 0
    for seed in range(count):
        rng = random.Random(seed)
        # The fewer comments, the more of what is changed matters; safe_load() has no variables to fill in.
        text = rng.choice((whole, SMALLEST))
        for _ in range(rng.choice((1, 1, 2))):
            mutate = rng.choices(MUTATIONS, WEIGHTS)[0]
            try:
                text = mutate(rng, text)
            except (yaml.YAMLError, ValueError, RecursionError):  # no YAML to change any more
                continue
        file.write_bytes(text.encode("utf-8", rng.choice(("surrogatepass", "ignore", "replace"))))
        environment = {"X": str(anything_plain(rng)), "RAGOPS_MODEL": str(anything_plain(rng))}
        try:
            playbook = load_playbook(str(file), environment=environment)
        except PlaybookError as error:
            assert error.problems, f"seed {seed}"
            assert all(problem.message for problem in error.problems), f"seed {seed}"
        except UsageError as error:
            assert error.what, f"seed {seed}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{text[:2000]}") from error
        else:
            accepted += 1
            # What is accepted can be used.
            assert list(playbook.gates()) == sorted(playbook.gates())
            identifiers_of(playbook.tables)
    assert 0 < accepted < count
