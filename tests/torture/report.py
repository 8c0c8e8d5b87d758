"""What a torture did and found, as figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torture.oracle import Violation

ALWAYS = ("lost", "doubled", "mixed", "vector", "unexpected", "gate")


@dataclass
class Report:
    """What a torture did and found."""

    seeds: list[int] = field(default_factory=list)
    items: int = 0
    campaigns: int = 0
    undos: int = 0
    gates: int = 0
    """Campaigns that were made to fail at their gate."""
    kinds: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """Exit codes after a signal that are none of those that a signal gives."""
    restarts: int = 0
    held: int = 0
    not_started: int = 0
    """Commands that ended before they did anything, because the database was away when they were typed."""
    outputs: list[str] = field(default_factory=list)
    """Everything that a program wrote which gave up, hung or ended oddly: why shows in what came before."""
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return sum(self.kinds.values())

    @property
    def is_clean(self) -> bool:
        return not (self.violations or self.gave_up or self.hung or self.odd)

    @property
    def is_broken(self) -> bool:
        """Whether going on would show nothing more."""
        return bool(self.violations or self.hung)

    def add(self, other: Report) -> None:
        self.seeds += other.seeds
        self.items += other.items
        self.campaigns += other.campaigns
        self.undos += other.undos
        self.gates += other.gates
        self.kinds += other.kinds
        for kind, found in other.recoveries.items():
            self.recoveries.setdefault(kind, []).extend(found)
        for name in ("violations", "gave_up", "hung", "odd", "outputs"):
            getattr(self, name).extend(getattr(other, name))
        self.restarts += other.restarts
        self.held += other.held
        self.not_started += other.not_started
        self.seconds += other.seconds

    def __str__(self) -> str:
        wrong = Counter(violation.kind for violation in self.violations)
        counts = {
            kind: wrong.get(kind, 0) for kind in ("lost", "doubled", "mixed", "vector", "unexpected", "gate")
        }
        others = {kind: count for kind, count in wrong.items() if kind not in counts}
        lines = [
            f"seeds {', '.join(map(str, self.seeds))}: {self.faults} faults over {self.items:,} items in"
            f" {self.campaigns} campaigns, {self.gates} failing gates and {self.undos} undos,"
            f" {self.seconds:.0f} s",
            "faults: " + ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common()),
            "  ".join(f"{kind} {count}" for kind, count in (counts | others).items())
            + f"  gave up {len(self.gave_up)}  hung {len(self.hung)}",
            f"controllers started again {self.restarts}, of which held {self.held};"
            f" without a database at their start {self.not_started}",
            "recovery, seconds from the end of a fault to the next stored document (median / p90 / max):",
        ]
        for kind, found in sorted(self.recoveries.items()):
            lines.append(f"  {kind:20} {_quantiles(found)}  ({len(found)})")
        everything = [seconds for found in self.recoveries.values() for seconds in found]
        lines.append(f"  {'all':20} {_quantiles(everything)}  ({len(everything)})")
        for title, texts in (("gave up", self.gave_up), ("hung", self.hung), ("odd exit", self.odd)):
            lines += [f"{title}: {text}" for text in texts]
        lines += [str(violation) for violation in self.violations[:40]]
        lines += self.outputs
        return "\n".join(lines)


def _quantiles(values: list[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return f"{middle:.1f} / {high:.1f} / {ordered[-1]:.1f}"
