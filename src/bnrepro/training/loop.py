"""The training loop: from one evaluation step to the next until the end. One screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from bnrepro.config import Config
from bnrepro.progress import Progress
from bnrepro.training.engines import Engine
from bnrepro.training.state import State

Measure = Callable[
    [State, Tensor], list[Any]
]  # (state, losses since the last time) -> measures of each replica


class Run(Protocol):
    """Where the numbers of some of the replicas go: runs/run.py."""

    def record(self, step: int, measures: list[Any]) -> None: ...

    def keep(self, state: State, seconds: float) -> None: ...

    def save(self, last: bool) -> None: ...


def evaluation_grid(cfg: Config) -> list[int]:
    """Steps at which a run is evaluated: 0, each `every`, the last; if eval.early 1, 2, 5, 10, 20, 50, ...

    With eval.first also each `first` of the first quarter.
    """
    grid = {0, cfg.steps, *range(0, cfg.steps, cfg.every)}
    if cfg.eval.first:
        grid |= set(range(0, cfg.steps // 4 + 1, cfg.eval.first))
    if cfg.eval.early:
        grid |= {n * 10**k for k in range(9) for n in (1, 2, 5) if n * 10**k < min(cfg.every, cfg.steps)}
    return sorted(grid)


def fit(
    state: State, engine: Engine, measure: Measure, runs: Sequence[Run], progress: Progress
) -> dict[str, float]:
    """Train from where `state` stands to the last step, measuring and recording on the evaluation grid.

    Returns seconds (training, measuring and recording), steps_per_s and replica_steps_per_s.
    """
    cfg, first, begun = state.replicas[0].cfg, max(state.step, 0), time.perf_counter()
    saved_at = begun
    progress(first, engine.note)
    for stop in evaluation_grid(cfg):
        if stop <= state.step:
            continue  # measured before the run was stopped
        start = max(state.step, 0)
        losses = engine.advance(state, start, stop)
        state.step = stop
        measures = measure(state, losses)
        now = time.perf_counter()
        for run in runs:
            run.record(stop, measures)
            run.keep(state, now - begun)
        if stop == cfg.steps or now - saved_at >= cfg.train.checkpoint_seconds:
            for run in runs:
                run.save(last=stop == cfg.steps)
            saved_at = now
        progress(stop, "")
    seconds = time.perf_counter() - begun
    rate = (cfg.steps - first) / seconds
    return {"seconds": seconds, "steps_per_s": rate, "replica_steps_per_s": rate * len(state)}
