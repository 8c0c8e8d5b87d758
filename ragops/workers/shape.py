"""The fleet's shape on this machine: what is planned, from what the machine, the model file and `tune` say."""

from __future__ import annotations

from ragops.fleet_plan import FleetShape, plan_fleet
from ragops.host import read_limits
from ragops.playbook.model import Playbook
from ragops.workers.tuning import tuned_for


def fleet_shape(playbook: Playbook) -> FleetShape:
    """Workers, threads and tokens a batch for a fleet that starts here and now."""
    file = playbook.model.file
    size = file.stat().st_size if file is not None and file.is_file() else 0
    return plan_fleet(playbook, read_limits(), model_bytes=size, tuned=tuned_for(playbook))
