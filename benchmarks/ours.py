"""The rows of this project. Only this file and images.py know the package's interface."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.task import BATCH, RATE, Result, Run, clock, device, images_and_labels, rate
from bnrepro.config import Config, DataConfig, EvalConfig, MLPConfig, OptimConfig, TrainConfig
from bnrepro.data import Dataset
from bnrepro.training.engines import Engine, build_engine
from bnrepro.training.state import Replica, State

GRID = 500  # steps between two evaluations of the published runs


def config(replicas: int, norm: str, **rest) -> Config:
    return Config(
        seeds=replicas,
        data=DataConfig(name="mnist", root=os.environ.get("BNREPRO_DATA", "data"), batch_size=BATCH),
        model=MLPConfig(norm=norm),
        optim=OptimConfig(lr=RATE),
        eval=EvalConfig(every=GRID, early=False),
        **rest,
    )


def named(engine: Engine) -> str:
    return ": ".join(filter(None, (engine.name, engine.note)))


@contextmanager
def training(replicas: int, norm: str, engine: str = "auto") -> Iterator[tuple[Run, Engine]]:
    """A Run that trains on the images of the other rows, GRID steps at a time; and its engine."""
    cfg = config(replicas, norm, train=TrainConfig(device=device().type, engine=engine))
    images, labels = images_and_labels()
    flat = images.flatten(1)
    data = Dataset(flat, labels, flat[:10_000], labels[:10_000], 1 / 255, "test").to(device())
    state, step = State([Replica(cfg, seed) for seed in cfg.seeds], data), 0
    built = build_engine(state, data)

    def train(steps: int) -> None:
        nonlocal step
        for start in range(step, step + steps, GRID):
            built.advance(state, start, start + GRID)
        step += steps

    try:
        yield train, built
    finally:
        built.close()


def train(steps: int, replicas: int, norm: str) -> Result:
    """With the engine that the project chooses; the note names it."""
    with training(replicas, norm) as (run_steps, engine):
        per_s = rate(run_steps, steps, GRID)
    return {"replica_steps_per_s": per_s * replicas, "note": named(engine)}


def recorded(replicas: int, steps: int) -> list[tuple[int, float, float]]:
    """(step, seconds, MiB of this process) at each point of the grid of a whole run on MNIST with BN."""
    from bnrepro.runs.run import run

    points: list[tuple[int, float, float]] = []

    def progress(step: int, said: str = "") -> None:
        points.append((step, clock(), psutil.Process().memory_info().rss / 2**20))

    with tempfile.TemporaryDirectory() as folder:
        run(config(replicas, "bn", train=TrainConfig(steps=steps), output=folder), progress)
    return points


def measuring(steps: int, replicas: int = 10) -> Result:
    """Evaluation, probe and table at a grid point, in percent of the training between two.

    What the median stretch of a run takes, from one grid point to the next, beyond the training alone.
    """
    with training(replicas, "bn") as (run_steps, _):
        alone = GRID / rate(run_steps, steps, GRID)
    times = [seconds for step, seconds, _ in recorded(replicas, 12 * GRID) if step >= GRID]
    stretch = statistics.median(after - before for before, after in itertools.pairwise(times))
    note = f"{replicas} replicas, 10,000 test images every {GRID} steps"
    return {"percent": 100 * (stretch - alone) / alone, "note": note}


def memory(steps: int) -> Result:
    """By how many MiB the process grows from step 1,000 to 10,000 of a run, evaluated and recorded."""
    mib = {step: size for step, _, size in recorded(1, 20 * GRID)}
    begin, end = mib[2 * GRID], mib[20 * GRID]
    return {"mib": end - begin, "note": f"from step {2 * GRID:,} to {20 * GRID:,}, on {begin:.0f} MiB"}


def first_step(steps: int) -> Result:
    """From process start until a run with default settings says that its one step is done and evaluated."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ["data=mnist5k", "train.steps=1", "eval.early=false", f"output={folder}"]
        begin = time.perf_counter()
        command = [sys.executable, "scripts/train.py", *settings]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = next((line for line in process.stdout if "step 1 of 1" in line), None)
            seconds = time.perf_counter() - begin
            process.stdout.read()
        if said is None:
            raise RuntimeError("the run did not reach its first step")
        return {"seconds": seconds, "note": "process start to first step done and evaluated"}


def compiling(steps: int) -> Result:
    """Seconds to trace and compile one shape: engine and first GRID steps, less the median of the next."""
    import jax  # noqa: F401  (its import is no part of it)

    marks = [clock()]
    with training(10, "bn", "xla") as (run_steps, engine):
        for _ in range(4):
            run_steps(GRID)
            marks.append(clock())
    first, *rest = (after - before for before, after in itertools.pairwise(marks))
    note = f"{engine.name}, 10 replicas with BN, {GRID} steps at a time"
    return {"seconds": first - statistics.median(rest), "note": note}
