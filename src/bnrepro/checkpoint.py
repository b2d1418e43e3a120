"""Save and resume a run's replicas."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bnrepro.replicas import Replicas


def save(path: Path, replicas: Replicas, wall_s: float) -> None:
    """Write the replicas' state and the time spent so far; a crash while writing leaves the previous file."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save({"replicas": replicas.state_dict(), "wall_s": wall_s}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(path: Path, replicas: Replicas) -> float | None:
    """Load what `save` wrote; returns the seconds spent before, or None where there is nothing to resume."""
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    replicas.load_state_dict(state["replicas"])
    return state["wall_s"]
