"""The rows of this project: the only part of the benchmark that knows the package's interface."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from benchmarks.task import BATCH, RATE, Result, clock, device, images_and_labels, rate
from bnrepro.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from bnrepro.data import Dataset
from bnrepro.drives import build_replicas
from bnrepro.evaluate import evaluate
from bnrepro.record import open_recorder

GRID = 500  # steps between two evaluations of the published runs


def build(replicas: int, norm: str, drive: str, workers: int):
    """Compiled replicas on the images of the other rows; 10,000 of them stand in for the test set."""
    cfg = Config(
        seeds=replicas,
        data=DataConfig(name="mnist", batch_size=BATCH),
        model=ModelConfig(norm=norm),
        optim=OptimConfig(lr=RATE),
        train=TrainConfig(device=device().type, compile="on", drive=drive, workers=workers),
    )
    images, labels = images_and_labels()
    flat = images.flatten(1)
    return build_replicas(cfg, Dataset(flat, labels, flat[:10_000], labels[:10_000], 1 / 255, "test"))


def train(steps: int, replicas: int, norm: str, drive: str, workers: int) -> Result:
    r = build(replicas, norm, drive, workers)
    try:
        per_s = rate(lambda n: r.advance(r.step_no + n, measure=False), steps)
    finally:
        r.close()
    how = r.eager_because or "compiled"
    return {"steps_per_s": per_s, "replica_steps_per_s": per_s * replicas, "note": how}


def recording(steps: int) -> Result:
    """Probe and table at one grid point, in percent of the training between two; evaluation in the note.

    What `measure` and the recorder take beyond the evaluation alone: the median of 20 paired differences.
    """
    r = build(1, "bn", "sequential", 1)
    training = GRID / rate(lambda n: r.advance(r.step_no + n, measure=False), steps)
    evaluations, differences = [], []
    with tempfile.TemporaryDirectory() as folder:
        recorder = open_recorder(Path(folder), asdict(r.cfg), r.cfg.seeds)
        for _ in range(20):
            begin = clock()
            evaluate(r.module(0), r.data)
            middle = clock()
            recorder.log(r.step_no, 0, *r.measure(0))
            recorder.flush()
            evaluations.append(middle - begin)
            differences.append(clock() - middle - (middle - begin))
        recorder.close("finished")
    evaluation, beyond = (100 * statistics.median(times) / training for times in (evaluations, differences))
    return {"percent": beyond, "note": f"and {evaluation:.1f}% to evaluate 10,000 images, every {GRID} steps"}


def memory(steps: int) -> Result:
    """By how much the process grows from step 1,000 to step 10,000, evaluated and recorded, in MiB."""
    r = build(1, "bn", "sequential", 1)
    with tempfile.TemporaryDirectory() as folder:
        recorder = open_recorder(Path(folder), asdict(r.cfg), r.cfg.seeds)

        def after(stop: int) -> float:
            for step in range(r.step_no + GRID, stop + 1, GRID):
                (measured,) = r.advance(step)
                recorder.log(step, 0, *measured)
                recorder.flush()
            return psutil.Process().memory_info().rss / 2**20

        begin, end = after(2 * GRID), after(20 * GRID)
        recorder.close("finished")
    return {"mib": end - begin, "note": f"from step {2 * GRID:,} to {20 * GRID:,}, on {begin:.0f} MiB"}


def first_step(steps: int) -> Result:
    """From process start until a run says that its one step is done and evaluated, not compiled."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            "data=mnist5k",
            "train.steps=1",
            "train.compile=off",
            "eval.early=false",
            f"output={folder}",
        ]
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
