"""The seeded scheduler: who acts next, what breaks, how much time passes. A run is a list of steps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from simulator.fleet import keep_alive
from simulator.processes import FIRST_PID, HOSTS, PIDS, Process
from simulator.programs import make_playbook, program
from simulator.tasks import State, Task
from simulator.world import CORPORA, POOLINGS, Violation, World

if TYPE_CHECKING:
    from collections.abc import Callable

Step = tuple[str | int, ...]

SECOND_US = 1_000_000
CALM_US, LOCK_TIMEOUT_US = 20 * SECOND_US, 2 * SECOND_US
MOST_PROCESSES = 5
# Rounds in which healthy processes must have done everything that is open.
ROUNDS = 300


class Schedule:
    """Chooses and executes steps."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._rng = random.Random(seed)
        self._spawned = 0

    # Execution. A step that does not apply any more, because steps before it were left out, does nothing.

    def execute(self, step: Step) -> None:
        """Do one step, and let whoever waited for it go on."""
        name, *arguments = step
        getattr(self, f"_do_{name}")(*arguments)
        self._world.settle()

    def _do_go(self, name: str, allowance: int) -> None:
        task = self._task(name)
        if task is not None and not task.process.is_stopped and task.state not in (State.DONE, State.BLOCKED):
            task.resume(allowance)
            if task.role == "main":
                task.process.end_beat()

    def _do_tick(self, us: int) -> None:
        self._world.advance(us)

    def _do_calm(self, times: int) -> None:
        """Let time pass while the healthy processes keep what they hold."""
        for _ in range(times):
            self._world.advance(CALM_US)
            for process in list(self._world.processes.values()):
                if process.is_alive and not process.is_stopped and process.beat is not None:
                    self._do_go(f"{process.id}/beat", 1000)
                    self._world.settle()

    def _do_spawn(self, id: str, kind: str, host: int, pid: int, source: str, pooling: str) -> None:
        world = self._world
        if id in world.processes or any(
            p.is_alive and (p.host, p.pid) == (HOSTS[host], pid) for p in world.processes.values()
        ):
            return
        playbook = make_playbook(world, source=source, pooling=pooling)
        rng = random.Random(f"{self._seed} {id}")
        process = Process(id, world, HOSTS[host], pid, kind, playbook, rng, world.now_us, len(world.processes))
        process.main = Task(process, "main", lambda: program(process))
        if kind in ("reset", "new", "resume", "wait", "embed"):
            process.beat = Task(process, "beat", lambda: keep_alive(process))
        world.processes[id] = process

    def _do_kill(self, id: str) -> None:
        if process := self._alive(id):
            process.kill()

    def _do_stop(self, id: str) -> None:
        if process := self._alive(id):
            process.is_stopped = True

    def _do_cont(self, id: str) -> None:
        if process := self._alive(id):
            process.is_stopped = False

    def _do_cut(self, id: str) -> None:
        if process := self._alive(id):
            self._world.terminate(process.connections)

    def _do_lose(self, id: str) -> None:
        if process := self._alive(id):
            process.loses_answer = True

    def _do_signal(self, id: str) -> None:
        if process := self._alive(id):
            # The second one ends the fleet at once, and what it holds goes back.
            (process.stop.aborted if process.stop.requested.is_set() else process.stop.requested).set()

    def _do_outage(self) -> None:
        self._world.is_down = True
        for process in self._world.processes.values():
            self._world.terminate(process.connections)

    def _do_restore(self) -> None:
        self._world.is_down = False

    def _do_expire(self, name: str) -> None:
        """Let the lock timeout of a waiting statement run out."""
        task = self._task(name)
        connection = task.blocked_on if task else None
        if task is not None and connection is not None and connection.lock_timeout_s is not None:
            # Not what is left of it, which depends on how fast this machine is.
            self._world.advance(LOCK_TIMEOUT_US)
            self._world.expire(task)

    def _task(self, name: str) -> Task | None:
        id, role = name.split("/")
        process = self._world.processes.get(id)
        if process is None or process.is_killed:
            return None
        return process.main if role == "main" else process.beat

    def _alive(self, id: str) -> Process | None:
        process = self._world.processes.get(id)
        return process if process is not None and process.is_alive else None

    # Choice.

    def choose(self) -> Step:
        """Return the next step, for the world as it is."""
        rng, world = self._rng, self._world
        if world.is_down and rng.random() < 0.2:
            return ("restore",)
        live = [p for p in world.processes.values() if p.is_alive]
        choices: list[tuple[float, Callable[[], Step]]] = [(10, self._tick)]
        for process in live:
            if process.is_stopped:
                choices.append((1, lambda p=process: ("cont", p.id)))  # type: ignore[misc]
                continue
            main = process.main
            if main.state is State.BLOCKED:
                connection = main.blocked_on
                if connection is not None and connection.lock_timeout_s is not None:
                    choices.append((3, lambda t=main: ("expire", str(t))))  # type: ignore[misc]
            else:
                choices.append((30, lambda t=main: ("go", str(t), self._allowance())))  # type: ignore[misc]
            if process.beat is not None and process.beat.state is not State.BLOCKED:
                choices.append((6, lambda t=process.beat: ("go", str(t), self._allowance())))  # type: ignore[misc]
            choices.append((3, lambda p=process: self._break(p)))  # type: ignore[misc]
        if len(live) < MOST_PROCESSES:
            weight = 30 if not live else 6 if len(live) < 4 else 2
            choices.append((weight, self._spawn))
        if not world.is_down:
            choices.append((0.3, lambda: ("outage",)))
        weights, makers = zip(*choices, strict=True)
        return rng.choices(makers, weights)[0]()  # type: ignore[no-any-return]

    def _allowance(self) -> int:
        return self._rng.choice((1, 2, 3, 5, 10, 30, 100, 300))

    def _tick(self) -> Step:
        rng = self._rng
        kind = rng.random()
        if kind < 0.35:
            return ("tick", rng.randint(1, 1000) * 1000)
        if kind < 0.60:
            return ("tick", rng.randint(1, 60) * SECOND_US)
        if kind < 0.78:
            return ("calm", rng.randint(1, 12))
        if kind < 0.84:
            return ("tick", rng.randint(60, 1800) * SECOND_US)
        return ("tick", 2 * rng.randint(1, 12) * 3600 * SECOND_US)

    def _break(self, process: Process) -> Step:
        what = self._rng.choices(("kill", "stop", "cut", "lose", "signal"), (3, 5, 3, 3, 4))[0]
        return (what, process.id)

    def _spawn(self) -> Step:
        rng, world = self._rng, self._world
        live = {p.kind for p in world.processes.values() if p.is_alive}
        is_open = world.oracle.has_open_campaign
        is_controlled = bool(live & {"reset", "new", "resume", "wait"})
        if is_open and is_controlled:
            weights = {"embed": 10, "resume": 1, "wait": 2, "new": 2, "undo": 1, "retry": 1, "reset": 1}
        elif is_open:
            weights = {"resume": 5, "wait": 3, "new": 5, "embed": 4, "undo": 2, "retry": 2, "reseed": 1}
        else:
            weights = {
                "reset": 8,
                "undo": 3,
                "embed": 3,
                "retry": 1,
                "reseed": 1 if world.oracle.last.items else 12,
            }
        kind = rng.choices(list(weights), list(weights.values()))[0]
        return self._spawning(kind)

    def _spawning(self, kind: str, *, host: int | None = None) -> Step:
        self._spawned += 1
        rng = self._rng
        source, pooling = self._playbook_of(kind)
        chosen = rng.randrange(len(HOSTS)) if host is None else host
        live = [p for p in self._world.processes.values() if p.is_alive and p.host == HOSTS[chosen]]
        pid = rng.choice([n for n in range(FIRST_PID, FIRST_PID + PIDS) if n not in {p.pid for p in live}])
        return ("spawn", f"p{self._spawned}", kind, chosen, pid, source, pooling)

    def _playbook_of(self, kind: str) -> tuple[str, str]:
        """Return the source and the pooling of a new process: a fleet's are right more often than not."""
        rng, filling = self._rng, self._world.oracle.filling
        pooling = rng.choice(POOLINGS)
        if kind in ("reset", "new", "reseed") or filling is None:
            return rng.choice(list(CORPORA)), pooling
        stored = self._world.oracle.space
        return filling.source, pooling if stored is None or rng.random() < 0.2 else stored

    # The end.

    def finish(self) -> Iterator[Step]:
        """Yield steps with which healthy processes do everything that is open. Raises Violation if they do not."""
        world = self._world
        yield ("restore",)
        for process in list(world.processes.values()):
            yield ("cont", process.id)
        for round in range(ROUNDS):
            live = [p for p in world.processes.values() if p.is_alive]
            if not live:
                is_open, items = world.oracle.has_open_campaign, world.oracle.last
                if not is_open and not items.with_status("pending", "processing"):
                    return
                yield self._spawning("resume" if is_open else "embed", host=round % len(HOSTS))
            for process in live:
                yield ("go", f"{process.id}/main", 400)
                if process.main.state is State.BLOCKED and round % 5 == 4:
                    yield ("expire", f"{process.id}/main")
            yield ("calm", 1)
        states = "; ".join(f"{t}: {t.state.value}" for t in world.tasks() if t.process.is_alive)
        outcomes = "; ".join(f"{p}: {p.outcome}" for p in list(world.processes.values())[-4:])
        raise Violation("healthy processes end what is open", f"{states} {outcomes} {world.oracle.last.campaigns}")
