"""What one index build is given: memory and parallel workers, from the server's facts. Pure decisions.

A graph that outgrows `maintenance_work_mem` is finished through the index's pages, which takes several times
as long. A parallel build takes the whole of it as shared memory, even for a smaller graph: so a build is
given what its graph needs, not what the machine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ragops.errors import PlanRefused
from ragops.facts import ServerFacts, ServerLimits, version_of
from ragops.postgres.connection import set_parameter_sql
from ragops.postgres.statements import Statement

MB = 1024**2
SAFE_PARALLEL_PGVECTOR = (0, 8, 2)
# A node of pgvector 0.8's graph in memory: the value, 2m neighbours of 16 bytes, and the rest. Measured from
# the server's notice about a full graph, for 384 and 768 dimensions, m from 8 to 32, vector, halfvec and bit.
NODE_BYTES, NEIGHBOUR_BYTES = 208, 32
# A parallel build keeps 3 MB aside and takes the rest in pieces: nearly 4 MB in all, measured in the same way.
ASIDE_BYTES = 6 * MB
MARGIN = 1.02
SAMPLES_PER_LIST, FEWEST_SAMPLES = 50, 10_000
# Below this a build takes seconds, whatever it is given.
FEW_ROWS = 10_000
# PostgreSQL plans no parallel worker where each process would have less than 32 MB.
PARALLEL_BYTES = 64 * MB
# How much longer a row takes once the graph is full; benchmarks/index_build.py shows what that comes to.
FULL_COST = 6.0
# The rest stays for the page cache and for what else runs there.
LOCAL_SHARE, REMOTE_SHARE = 0.75, 0.25
# By convention shared_buffers is a quarter of a server's memory, and effective_cache_size three quarters.
BUFFERS_SHARE, CACHE_SHARE = 0.25, 0.75
# PostgreSQL's default of max_parallel_workers, which says nothing of the machine.
UNSET_PARALLEL_WORKERS = 8

_UNITS = {"kB": 1024, "MB": MB, "GB": 1024 * MB, "TB": 1024**2 * MB}
_VALUE_BYTES = {"vector": 4.0, "halfvec": 2.0, "bit": 1 / 8}


@dataclass(frozen=True, slots=True)
class Graph:
    """What decides how much memory an HNSW graph takes."""

    kind: str
    """Type of the values: vector, halfvec or bit; empty where it is unknown."""
    dimensions: int | None
    m: int

    def bytes(self, rows: int) -> int | None:
        """Return the memory of a graph of `rows` nodes; None for values of unknown size."""
        if self.kind not in _VALUE_BYTES or self.dimensions is None:
            return None
        node = self.dimensions * _VALUE_BYTES[self.kind] + self.m * NEIGHBOUR_BYTES + NODE_BYTES
        return int(rows * node * MARGIN) + ASIDE_BYTES


@dataclass(frozen=True, slots=True)
class Lists:
    """What decides how much memory the search for an IVFFlat index's centers takes."""

    kind: str
    """Type of the values: vector, halfvec or bit; empty where it is unknown."""
    dimensions: int | None
    lists: int

    def bytes(self, rows: int) -> int | None:
        """Return the memory of the k-means search, whatever the rows are; None for values of unknown size.

        pgvector refuses the build where maintenance_work_mem is smaller. Its source (ivfkmeans.c, 0.8) adds up a
        sample of 50 rows a list, at least 10,000, the old and new centers, the distance of each sample to each
        center, and that of each center to each other one.
        """
        if self.kind not in _VALUE_BYTES or self.dimensions is None:
            return None
        value = self.dimensions * _VALUE_BYTES[self.kind] + 8
        sample = max(SAMPLES_PER_LIST * self.lists, FEWEST_SAMPLES)
        distances = 4 * (sample * self.lists + self.lists**2)
        return int((sample + 2 * self.lists) * value + distances + 8 * sample) + ASIDE_BYTES


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the server for one build: to the end of its transaction, or of a session of its own."""

    name: str
    value: str
    is_local: bool = True

    @property
    def statement(self) -> Statement:
        return set_parameter_sql(self.name, self.value, is_local=self.is_local)


@dataclass(frozen=True, slots=True)
class Resources:
    """Parameters for one build, and why they are what they are; an empty note where nothing was decided."""

    parameters: tuple[Parameter, ...] = ()
    note: str = ""

    def without_workers(self) -> Resources:
        """The same memory, private to the one process that then builds."""
        memory = [p for p in self.parameters if p.name == "maintenance_work_mem"]
        is_local = all(p.is_local for p in self.parameters)
        return Resources((*memory, Parameter("max_parallel_maintenance_workers", "0", is_local)), self.note)


NOTHING_SET = Resources()


@dataclass(frozen=True, slots=True)
class _Budget:
    """Bytes that one build may take, and where that is known from."""

    bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class _Share:
    """What one build gets of it."""

    memory: int
    workers: int
    no_workers_because: str = ""


def resources_of(
    graph: Graph | Lists,
    *,
    rows: int | None,
    server: ServerFacts,
    concurrently: bool,
    memory: str | None = None,
    parallel_workers: int | None = None,
) -> Resources:
    """Return what a build of `rows` rows (None: not known yet) is given on top of the server's own settings.

    The operator's `memory` and `parallel_workers` win. Nothing is set lower than the server has it, except
    that parallel workers are left out where they are unsafe or have no room. Raises PlanRefused when an
    unsafe parallel build cannot be prevented.
    """
    version = server.pgvector_version
    is_safe = version is None or version_of(version) >= SAFE_PARALLEL_PGVECTOR
    if concurrently and not server.is_direct:
        return _behind_a_pooler(server, is_safe=is_safe)
    asked = parallel_workers if is_safe else 0
    # A graph of few rows fits anyway. The search for centers needs its memory whatever the rows are.
    is_small = isinstance(graph, Graph) and rows is not None and rows < FEW_ROWS
    needed = None if rows is None or is_small else graph.bytes(rows)
    share, note = None, ""
    if needed is not None and server.limits is not None:
        budget = _budget(server.limits)
        share = _share(needed, server.limits, budget, asked=asked, memory=memory)
        note = _note(needed, share, budget, what="graph" if isinstance(graph, Graph) else "lists")
    elif rows is None:
        note = "its rows are not known yet: memory and parallel workers are chosen when it is built"
    values = _values(memory, asked, share, server.limits)
    return Resources(tuple(Parameter(n, v, not concurrently) for n, v in values.items()), note)


def _behind_a_pooler(server: ServerFacts, *, is_safe: bool) -> Resources:
    """A concurrent build has no transaction for its settings, and a pooler's session is not its own."""
    own = server.limits.max_parallel_maintenance_workers if server.limits else None
    if not is_safe and own != 0:
        raise PlanRefused(
            "a concurrent index build could not be kept from parallel workers, which are unsafe (CVE-2026-3172)",
            where=server.database,
            actual=f"pgvector {server.pgvector_version} behind a connection pooler",
            expected=f"pgvector {'.'.join(map(str, SAFE_PARALLEL_PGVECTOR))}, or a direct connection",
            hint="the same without concurrently, or with a DSN that does not lead through the pooler",
        )
    return Resources((), "behind a pooler a concurrent build keeps the server's own memory and workers")


def _budget(limits: ServerLimits) -> _Budget:
    """What a build may take: of the memory that is free, else of what the server's settings stand for."""
    if limits.host is not None:
        free = limits.host.memory_bytes
        return _Budget(int(free * LOCAL_SHARE), f"from {amount(free)} free on the server's machine")
    told = {
        "shared_buffers": limits.shared_buffers and int(limits.shared_buffers / BUFFERS_SHARE),
        "effective_cache_size": limits.effective_cache_size and int(limits.effective_cache_size / CACHE_SHARE),
    }
    known = {name: memory for name, memory in told.items() if memory}
    if not known:
        return _Budget(0, "within the server's own maintenance_work_mem, as its settings do not tell its memory")
    least = min(known.values())
    source = f"from a quarter of the server's memory, {amount(least)} as its {' and '.join(known)} put it"
    return _Budget(int(least * REMOTE_SHARE), source)


def _share(graph: int, limits: ServerLimits, budget: _Budget, *, asked: int | None, memory: str | None) -> _Share:
    """Memory and workers; `asked` and `memory` are the operator's own, where given."""
    own = limits.maintenance_work_mem
    workers = _free_workers(limits) if asked is None else asked
    private = bytes_of(memory) if memory else max(own, min(graph, budget.bytes))
    room = limits.host.shared_bytes if limits.host else None
    wanted = max(graph, PARALLEL_BYTES)
    if room is not None:
        wanted = min(wanted, max(0, room - ASIDE_BYTES))
    shared = bytes_of(memory) if memory else max(own, min(wanted, budget.bytes))
    if workers == 0:
        return _Share(private, 0)
    processes = workers + 1 if limits.host is None else min(workers + 1, limits.host.cores)
    is_short = room is not None and (shared > room or _cost(graph, shared, processes) > _cost(graph, private, 1))
    if is_short and asked is None:
        return _Share(private, 0, f": /dev/shm has {amount(room or 0)} free")
    return _Share(shared, workers)


def _cost(graph: int, memory: int, processes: int) -> float:
    """Time of a build in units of one process that has the whole graph in memory."""
    inside = min(1.0, memory / graph)
    return (inside + (1 - inside) * FULL_COST) / processes


def _free_workers(limits: ServerLimits) -> int:
    """Parallel workers beside the leading process; no fewer than the server has set, no more than it can start."""
    own, most = limits.max_parallel_maintenance_workers, limits.max_parallel_workers
    if limits.host is not None:
        found = limits.host.cores - 1
    else:
        # Half of what an operator lets all parallel queries together have.
        found = 0 if most == UNSET_PARALLEL_WORKERS else most // 2
    return min(max(own, found), max(own, limits.max_worker_processes))


def _values(
    memory: str | None, asked: int | None, share: _Share | None, limits: ServerLimits | None
) -> dict[str, str]:
    """Name → value of what differs from the server's own setting, and of all that the operator asks for."""
    values: dict[str, str] = {}
    workers = asked
    if memory:
        values["maintenance_work_mem"] = memory
    if share is not None and limits is not None:
        workers = share.workers
        if not memory and share.memory > limits.maintenance_work_mem:
            values["maintenance_work_mem"] = f"{ceil(share.memory / MB)}MB"
        if workers > limits.max_parallel_workers:
            values["max_parallel_workers"] = str(workers)
        if workers:
            # PostgreSQL looks at the table without its TOAST, where vectors of 500 dimensions and more are.
            values["min_parallel_table_scan_size"] = "0"
        if workers == limits.max_parallel_maintenance_workers and asked is None:
            workers = None
    if workers is not None:
        values["max_parallel_maintenance_workers"] = str(workers)
    return values


def _note(graph: int, share: _Share, budget: _Budget, *, what: str) -> str:
    fits = "" if share.memory >= graph else f", {amount(share.memory)} of it in memory and the rest slower"
    plural = "s" if share.workers != 1 else ""
    number = share.workers or "no"
    workers = f"{number} parallel worker{plural}{share.no_workers_because}"
    return f"{what} about {amount(graph)}{fits}, {workers}, {budget.source}"


def bytes_of(text: str) -> int:
    """`2GB` in bytes, in PostgreSQL's units."""
    return int(text[:-2]) * _UNITS[text[-2:]]


def amount(count: int) -> str:
    """Bytes in PostgreSQL's units, as its settings are written: `64 MB`, `4.1 GB`."""
    return f"{count / (1024 * MB):,.1f} GB" if count >= 1024 * MB else f"{ceil(count / MB):,} MB"
