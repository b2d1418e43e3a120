"""Save and resume the replicas of a run; those of runs that train together lie apart, each with its run."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bnrepro.replicas import Replicas


def save(path: Path, replicas: Replicas, wall_s: float, run: int = 0) -> None:
    """Write the state of run number `run` and the time spent so far; a crash leaves the previous file."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save({"replicas": replicas.state_dict(run), "wall_s": wall_s}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(path: Path, replicas: Replicas, run: int = 0) -> float | None:
    """Load what `save` wrote; returns the seconds spent before, or None where there is nothing to resume."""
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    replicas.load_state_dict(state["replicas"], run)
    return state["wall_s"]


def step_of(path: Path) -> int:
    """The step at which a run resumes; -1 where it starts."""
    return (
        torch.load(path, map_location="cpu", weights_only=True)["replicas"]["step_no"]
        if path.exists()
        else -1
    )
