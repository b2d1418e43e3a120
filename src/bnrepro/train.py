"""The training loop. One screen: resume, and from one evaluation step to the next until the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bnrepro import checkpoint
from bnrepro.config import EvalConfig
from bnrepro.record import Recorder
from bnrepro.replicas import Replicas

Progress = Callable[[int, str], None]  # (steps done, a line worth saying or "")


def evaluation_grid(cfg: EvalConfig, steps: int) -> list[int]:
    """Steps at which a run is evaluated: 0, each `every`, the last; if `early` 1, 2, 5, 10, 20, 50, ..."""
    grid = {0, steps, *range(0, steps, cfg.every)}
    if cfg.early:
        grid |= {n * 10**k for k in range(9) for n in (1, 2, 5) if n * 10**k < min(cfg.every, steps)}
    return sorted(grid)


def fit(
    replicas: Replicas, recorders: list[Recorder], folders: list[Path], progress: Progress
) -> dict[str, float]:
    """Train to the last step, recording on the evaluation grid; resumes by itself.

    One recorder and one folder for each of replicas.runs. Returns wall_s (training, evaluation and
    recording; all sessions of a resumed run), steps_per_s and replica_steps_per_s (of this session).
    """
    cfg, saved = replicas.cfg, [folder / "checkpoint.pt" for folder in folders]
    spent = None
    for i, path in enumerate(saved):
        spent = checkpoint.restore(path, replicas, i)
    for recorder in recorders:
        recorder.rewind(-1 if spent is None else replicas.step_no)
    progress(replicas.step_no, replicas.eager_because or "")
    first, begun = replicas.step_no, time.perf_counter()
    checkpointed = begun

    for stop in evaluation_grid(cfg.eval, cfg.train.steps):
        if spent is not None and stop <= first:
            continue  # measured before the checkpoint
        measures = replicas.advance(stop)
        for i, recorder in enumerate(recorders):
            rows = replicas.rows(i)
            for seed, (values, histograms) in zip(replicas.seeds[rows], measures[rows], strict=True):
                recorder.log(stop, seed, values, histograms)
            recorder.flush()
        now = time.perf_counter()
        if stop == cfg.train.steps or now - checkpointed >= cfg.train.checkpoint_seconds:
            for i, path in enumerate(saved):
                checkpoint.save(path, replicas, now - begun + (spent or 0.0), i)
            checkpointed = now
        progress(stop, "")

    session = time.perf_counter() - begun
    rate = (cfg.train.steps - first) / session
    wall = session + (spent or 0.0)
    return {"wall_s": wall, "steps_per_s": rate, "replica_steps_per_s": rate * len(replicas)}
