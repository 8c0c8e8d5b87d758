"""Compute the delays between attempts. The caller sleeps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter, bounded in each delay and in their sum.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("equal jitter").
    """

    first_s: float = 0.2
    factor: float = 2.0
    longest_s: float = 10.0
    total_s: float = 60.0

    def delays(self, *, jitter: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield delays in seconds until their sum would exceed `total_s`; `jitter` returns 0 to 1."""
        spent = 0.0
        bound = min(self.first_s, self.longest_s)
        while True:
            # Half of the delay is fixed: with full jitter, a draw near zero would make the wait a busy loop.
            delay = bound * (0.5 + 0.5 * jitter())
            if spent + delay > self.total_s:
                return
            yield delay
            spent += delay
            bound = min(bound * self.factor, self.longest_s)
