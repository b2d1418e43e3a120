"""Save and resume the replicas of a run; those of runs that train together lie apart, each with its run."""

from __future__ import annotations

from pathlib import Path

import torch

from bnrepro.files import replacing
from bnrepro.replicas import Replicas


def save(path: Path, replicas: Replicas, wall_s: float, run: int = 0) -> None:
    """Write the state of run number `run` and the time spent so far; a crash leaves the previous file."""
    with replacing(path) as file:
        torch.save({"replicas": replicas.state_dict(run), "wall_s": wall_s}, file)


def restore(path: Path, replicas: Replicas, run: int = 0) -> float | None:
    """Load what `save` wrote; returns the seconds spent before, or None where there is nothing to resume."""
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    replicas.load_state_dict(state["replicas"], run)
    return state["wall_s"]


def step_of(path: Path) -> int:
    """The step at which a run resumes; -1 where it starts. Mapped: no tensor is read."""
    if not path.exists():
        return -1
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["replicas"]["step_no"]
