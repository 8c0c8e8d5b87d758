"""Faults drawn from a seed: the same seed gives the same kinds at the same distances."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torture.faults import Fault, Target


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that is to come, `gap_s` after the one before."""

    number: int
    gap_s: float
    fault: Fault
    seed: int

    def __str__(self) -> str:
        return f"{self.number}:{self.fault.__name__}+{self.gap_s:.2f}"


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that hit something."""

    planned: Planned
    began: float
    ended: float

    @property
    def kind(self) -> str:
        return self.planned.fault.__name__


def plan(seed: int, weights: Mapping[Fault, float], *, mean_gap_s: float) -> Iterator[Planned]:
    """Draw faults for ever. Every kind comes once before the weights decide, so that no run lacks one."""
    rng = random.Random(seed)
    names = sorted(weights, key=lambda fault: fault.__name__)
    first = rng.sample(names, len(names))
    number = 0
    while True:
        number += 1
        fault = first.pop() if first and rng.random() < 0.5 else rng.choices(names, [weights[f] for f in names])[0]
        yield Planned(number, min(rng.expovariate(1 / mean_gap_s), 4 * mean_gap_s), fault, rng.getrandbits(32))


class Scheduler:
    """Starts each fault when it is due, in a thread of its own; several may be under way at once."""

    def __init__(self, seed: int, weights: Mapping[Fault, float], *, mean_gap_s: float) -> None:
        self.mean_gap_s = mean_gap_s
        self._plan = plan(seed, weights, mean_gap_s=mean_gap_s)
        self._next = next(self._plan)
        self._left = self._next.gap_s
        self._ticked = time.monotonic()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.started: list[Planned] = []
        self.happened: list[Happened] = []
        self.errors: list[str] = []

    @property
    def kinds(self) -> Counter[str]:
        return Counter(one.kind for one in self.happened)

    def tick(self, target: Target, *, speed: float = 1.0) -> None:
        """Start the next fault if it is due; with a lower speed its time passes more slowly."""
        now = time.monotonic()
        self._left -= (now - self._ticked) * speed
        self._ticked = now
        if self._left > 0:
            return
        planned, self._next = self._next, next(self._plan)
        self._left = self._next.gap_s
        self.started.append(planned)
        thread = threading.Thread(target=self._run, args=(planned, target), name=str(planned), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self, planned: Planned, target: Target) -> None:
        began = time.monotonic()
        try:
            did_hit = planned.fault(target, random.Random(planned.seed))
        except Exception as error:  # noqa: BLE001 (reported by the torture: a fault that cannot be staged)
            self.errors.append(f"{planned}: {type(error).__name__}: {error}")
            return
        if did_hit:
            with self._lock:
                self.happened.append(Happened(planned, began, time.monotonic()))

    def settle(self) -> None:
        """Wait until every fault that was started is over."""
        for thread in self._threads:
            thread.join(timeout=120)
            if thread.is_alive():
                self.errors.append(f"{thread.name} did not end")
        self._threads.clear()
