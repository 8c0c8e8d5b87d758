"""Choose files of a folder by patterns, and tell which folders need not be entered for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from pathlib import PurePosixPath

from ragops.documents.locations import refusal
from ragops.errors import UsageError

# How far a pattern has come in a folder: all of its readings of `**` advance together, as in Thompson's simulation
# of an NFA (CACM 11(6), 1968), so that no pattern takes exponential time.
States = frozenset[int]


@dataclass(frozen=True, slots=True)
class Place:
    """How far the patterns have come in one folder, and which of its files they choose."""

    included: tuple[States, ...]
    excluded: tuple[States, ...]
    wants: Callable[[str], bool]
    """Whether a file of this name in this folder is chosen."""


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Patterns in two groups: those of a name at any depth, and those of a whole location, as their parts."""

    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]

    def start(self) -> tuple[States, ...]:
        return tuple(_past_stars({0}, segments) for segments in self.paths)

    def into(self, states: tuple[States, ...], folder: str) -> tuple[States, ...]:
        return tuple(_advanced(found, segments, folder) for found, segments in self._with_paths(states))

    def of_files(self, states: tuple[States, ...]) -> list[str]:
        """Return the patterns of names that a file in this folder must meet one of."""
        # The last part is never `**`, so that only what waits for it can choose a file.
        ends = [parts[-1] for found, parts in self._with_paths(states) if len(parts) - 1 in found]
        return [*self.names, *ends]

    def may_reach_below(self, states: tuple[States, ...]) -> bool:
        """Return whether a file in this folder, or in one below it, can be met."""
        return bool(self.names) or any(
            state < len(parts) for found, parts in self._with_paths(states) for state in found
        )

    def covers(self, states: tuple[States, ...], folder: str) -> bool:
        """Return whether a folder of this name, with these states after it, is met as a whole."""
        return any(fnmatchcase(folder, name) for name in self.names) or any(
            len(parts) in found or (parts[-2:] == ("**", "*") and len(parts) - 1 in found)
            for found, parts in self._with_paths(states)
        )

    def _with_paths(self, states: tuple[States, ...]) -> Iterator[tuple[States, tuple[str, ...]]]:
        return zip(states, self.paths, strict=True)


class Selection:
    """The patterns of a source.

    A pattern without a slash matches a name at any depth; one with a slash matches the whole location, `**` any
    number of folders. Matching is case-sensitive. `include` chooses files, without a pattern all of them;
    `exclude` takes files out of that again, and everything below a folder that it matches.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Raises UsageError for a pattern that leads outside the folder."""
        self._include = _parsed(include or ("*",), option="source.include", flag="--pattern")
        self._exclude = _parsed(exclude, option="source.exclude", flag="--exclude")
        self._places: dict[tuple[tuple[States, ...], tuple[States, ...]], Place] = {}
        self.root = self._place(self._include.start(), self._exclude.start())
        """The place of the folder itself."""

    def enter(self, place: Place, folder: str) -> Place | None:
        """Return the place of a folder inside another one; None if nothing in it can be chosen."""
        included = self._include.into(place.included, folder)
        if not self._include.may_reach_below(included):
            return None
        excluded = self._exclude.into(place.excluded, folder)
        if self._exclude.covers(excluded, folder):
            return None
        return self._place(included, excluded)

    def _place(self, included: tuple[States, ...], excluded: tuple[States, ...]) -> Place:
        # A tree has few of these: most folders leave the patterns where they were. One regular expression on the
        # name takes 0.2 µs per file, the match of whole paths up to 10 µs.
        key = (included, excluded)
        if key not in self._places:
            is_included = _any_of(self._include.of_files(included))
            dropped = self._exclude.of_files(excluded)
            wants = is_included if not dropped else _without(is_included, _any_of(dropped))
            self._places[key] = Place(included, excluded, wants)
        return self._places[key]


def excludes(pattern: str) -> Callable[[str], bool]:
    """Return a test of whole locations: whether `source.exclude` with this pattern would leave one out.

    Raises UsageError for a pattern that leads outside the folder.
    """
    selection = Selection(exclude=(pattern,))

    def is_excluded(location: str) -> bool:
        *folders, name = location.split("/")
        place: Place | None = selection.root
        for folder in folders:
            place = place and selection.enter(place, folder)
        return place is None or not place.wants(name)

    return is_excluded


def _any_of(names: Sequence[str]) -> Callable[[str], bool]:
    match = re.compile("|".join(map(translate, dict.fromkeys(names))) or "(?!)").match
    return lambda name: match(name) is not None


def _without(included: Callable[[str], bool], excluded: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda name: included(name) and not excluded(name)


def _parsed(patterns: Sequence[str], *, option: str, flag: str) -> _Patterns:
    names: list[str] = []
    paths: list[tuple[str, ...]] = []
    for pattern in patterns:
        segments = PurePosixPath(pattern).parts
        reason = refusal(pattern) or (None if segments else "the corpus folder itself")
        if reason is not None:
            raise UsageError(
                "invalid pattern in the source",
                where=repr(pattern),
                actual=reason,
                expected="a pattern relative to the corpus folder, such as *.md or docs/**/*.txt",
                hint=f"check {option} in the playbook or {flag}",
            )
        if segments[-1] == "**":
            # Only files are chosen, so that a trailing `**` can only mean the files below.
            segments = (*segments, "*")
        if len(segments) == 1 or (len(segments) == 2 and segments[0] == "**"):
            names.append(segments[-1])
        else:
            paths.append(segments)
    return _Patterns(tuple(names), tuple(paths))


def _advanced(states: States, segments: tuple[str, ...], folder: str) -> States:
    """Return the states behind one more folder."""
    onward = set()
    for state in states:
        if state == len(segments):
            continue
        if segments[state] == "**":
            onward.add(state)
        elif fnmatchcase(folder, segments[state]):
            onward.add(state + 1)
    return _past_stars(onward, segments)


def _past_stars(states: set[int], segments: tuple[str, ...]) -> States:
    """Return the states and those behind each `**`, which may stand for no folder at all."""
    reached = set(states)
    for state in sorted(states):
        while state < len(segments) and segments[state] == "**":
            state += 1
            reached.add(state)
    return frozenset(reached)
