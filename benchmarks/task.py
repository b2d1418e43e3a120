"""What every row does: the 3x100 sigmoid net, 60,000 images, batches of 60, plain SGD; and the clock."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn

BATCH, RATE = 60, 0.1
SECONDS = 1.0  # timed, at least
FLOP_PER_STEP = 6 * BATCH * (784 * 100 + 2 * 100 * 100 + 100 * 10) - 2 * BATCH * 784 * 100  # no gradient of x
Run = Callable[[int], object]  # trains for that many steps
Result = dict[str, float | str]  # "replica_steps_per_s" or another quantity, and a "note"


@functools.cache
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def images_and_labels() -> tuple[Tensor, Tensor]:
    """60,000 images, uint8 (N, 28, 28), and labels, int64: MNIST's if on disk, else noise as sparse."""
    raw = Path(os.environ.get("BNREPRO_DATA", "data"), "MNIST", "raw")
    if (raw / "train-images-idx3-ubyte").is_file():
        images = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8, offset=8)
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60_000, 28, 28), np.uint8)
        images[rng.random(images.shape, np.float32) > 0.2] = 0
        labels = rng.integers(0, 10, 60_000, np.uint8)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def network(bn: bool = False) -> nn.Sequential:
    """The net as one writes it with torch.nn."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (784, 100, 100):
        layers += [nn.Linear(inputs, 100, bias=not bn), *([nn.BatchNorm1d(100)] if bn else []), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(100, 10))


def openblas_kernel() -> str:
    """What numpy's OpenBLAS calls the processor that its kernels are written for, such as SkylakeX."""
    found = [
        lib for lib in threadpool_info() if lib["internal_api"] == "openblas" and "numpy" in lib["filepath"]
    ]
    return found[0]["architecture"] if found else "unknown"


def clock() -> float:
    """Seconds, once everything asked of the device is done."""
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(run: Run, steps: int, unit: int = 1) -> float:
    """Steps per second, over at least `steps` steps and a second, after a tenth as many untimed ones.

    All calls ask for whole units: a compiled loop has a fixed length. A second, because the fastest rows take
    less for a thousand steps than is needed to even out what else the machine does.
    """
    run(_whole(max(20, steps // 10), unit))
    each, done, begin = _whole(steps, unit), 0, clock()
    while not done or clock() - begin < SECONDS:
        run(each)
        done += each
    return done / (clock() - begin)


def fastest(runs: dict[str, Run], steps: int, unit: int = 1, replicas: int = 1) -> Result:
    """Try each way for a tenth of the steps, then time the fastest; the note names it."""
    best = next(iter(runs))
    if len(runs) > 1:
        best = max(runs, key=lambda name: rate(runs[name], steps // 10, unit))
    return {"replica_steps_per_s": replicas * rate(runs[best], steps, unit), "note": best}


def _whole(steps: int, unit: int) -> int:
    return max(1, -(-steps // unit)) * unit


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def crew(make: Callable[..., Run], each: list[tuple], shared_out: bool = True) -> Run:
    """Processes that work at the same time, behind one Run: process i runs make(*each[i]).

    They are on a core each with one thread each, or, not shared_out, on all cores with their libraries' own
    threads. `make` is a function of a module and what it makes stays in its process. They are spawned: a fork
    would copy the locks of threads that are not copied. They start when first asked.
    """
    places = [{core} for core in cores()] if shared_out else [set(cores())] * len(each)
    context = multiprocessing.get_context("spawn")
    pools = [
        ProcessPoolExecutor(1, context, _settle, (place,)) for place, _ in zip(places, each, strict=False)
    ]

    def run(steps: int) -> None:
        jobs = [pool.submit(_work, make, args, steps) for pool, args in zip(pools, each, strict=True)]
        for job in jobs:
            job.result()

    return run


def _settle(place: set[int]) -> None:
    os.sched_setaffinity(0, place)
    if len(place) == 1:
        torch.set_num_threads(1)
        threadpool_limits(1)


@functools.cache
def _made(make: Callable[..., Run], args: tuple) -> Run:
    return make(*args)


def _work(make: Callable[..., Run], args: tuple, steps: int) -> None:
    _made(make, args)(steps)
