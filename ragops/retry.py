"""Backoff as a value: what to wait next is computed, never slept here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with full jitter, bounded in each delay and in their sum.

    Source of the jitter: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    first_s: float = 0.2
    factor: float = 2.0
    longest_s: float = 10.0
    total_s: float = 60.0

    def delays(self, *, jitter: Callable[[], float] = random.random) -> Iterator[float]:
        """Delays in seconds until their sum would pass `total_s`; `jitter` returns 0 to 1."""
        spent = 0.0
        bound = min(self.first_s, self.longest_s)
        while True:
            # Half of the delay is fixed: a jitter of zero must not turn the wait into a busy loop.
            delay = bound * (0.5 + 0.5 * jitter())
            if spent + delay > self.total_s:
                return
            yield delay
            spent += delay
            bound = min(bound * self.factor, self.longest_s)
