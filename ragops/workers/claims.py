"""Claims of which something is not stored yet, and the size of the next one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ragops.postgres.queue import Claim
from ragops.workers.inflight import InFlight

# A claim is as large as what the fleet embeds and stores in CLAIM_S, from one to LARGEST_CLAIM batches.
CLAIM_S, SMALLEST_CLAIM_S = 0.25, 0.05
LARGEST_CLAIM = 10
# Throughput is known soon after the first documents are stored, and then averaged over a longer time: what
# is stored arrives in transactions of up to a second.
FIRST_THROUGHPUT_S, THROUGHPUT_S = 0.05, 2.0


class Claims:
    """State of a fleet's claims. The pipeline's lock guards it."""

    def __init__(self, *, batch_size: int) -> None:
        self._batch_size = batch_size
        self._open: dict[uuid.UUID, tuple[Claim, int]] = {}
        self._throughput = Throughput()
        self.in_flight = 0
        """Documents that are claimed and not stored yet."""

    @property
    def next_size(self) -> int:
        """Items to claim next: a batch, or more if a batch takes less than `CLAIM_S`."""
        wanted = int(self._throughput.docs_per_s * CLAIM_S)
        return min(max(self._batch_size, wanted), LARGEST_CLAIM * self._batch_size)

    @property
    def smallest_size(self) -> int:
        """Items that are stored within `SMALLEST_CLAIM_S`: a smaller claim costs more than it spreads."""
        return max(1, int(self._throughput.docs_per_s * SMALLEST_CLAIM_S))

    def held(self) -> list[Claim]:
        """Return the claims of which something is not stored yet."""
        return [claim for claim, _ in self._open.values()]

    def add(self, claim: Claim) -> None:
        """Keep a new claim until all of its items are settled."""
        self._open[claim.id] = (claim, len(claim.items))
        self.in_flight += len(claim.items)

    def settle(self, documents: Sequence[InFlight], *, now: float) -> None:
        """Remove documents that are stored, failed or dropped at the time `now` (seconds, any origin)."""
        for document in documents:
            claim, left = self._open[document.claim.id]
            if left == 1:
                del self._open[claim.id]
            else:
                self._open[claim.id] = (claim, left - 1)
        self.in_flight -= len(documents)
        self._throughput.add(len(documents), now=now)


class Throughput:
    """Documents per second over the last seconds; 0 until it is known. Time is passed in."""

    def __init__(self) -> None:
        self.docs_per_s = 0.0
        self._since: float | None = None
        self._documents = 0

    def add(self, documents: int, *, now: float) -> None:
        """Count documents that were stored at `now`."""
        if self._since is None:
            # The first ones have waited for the start of the fleet, which is not their time.
            self._since = now
            return
        self._documents += documents
        if now - self._since >= (THROUGHPUT_S if self.docs_per_s else FIRST_THROUGHPUT_S):
            self.docs_per_s = self._documents / (now - self._since)
            self._since, self._documents = now, 0
