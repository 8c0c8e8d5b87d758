"""The fleet's shape on this machine: what is planned, from what the machine, the model file and `tune` say."""

from __future__ import annotations

from ragops.fleet_plan import FleetShape, plan_fleet
from ragops.host import read_limits
from ragops.playbook.model import Playbook
from ragops.workers.tuning import tuned_for

MOST_SIDE_THREADS = 4


def fleet_shape(playbook: Playbook) -> FleetShape:
    """Workers, threads and tokens a batch for a fleet that starts here and now."""
    file = playbook.model.file
    size = file.stat().st_size if file is not None and file.is_file() else 0
    return plan_fleet(playbook, read_limits(), model_bytes=size, tuned=tuned_for(playbook))


def side_threads() -> int:
    """Threads of a child that embeds a sample, perhaps beside a fleet: half of the cores, at most four.

    llama.cpp's threads wait for each other at barriers; one that waits for a busy core holds up all.
    """
    return max(1, min(read_limits().cores // 2, MOST_SIDE_THREADS))
