"""What every row does: the 3x100 sigmoid net, 60,000 images, batches of 60, plain SGD; and the clock."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCH, RATE = 60, 0.1
FLOP_PER_STEP = 6 * BATCH * (784 * 100 + 2 * 100 * 100 + 100 * 10) - 2 * BATCH * 784 * 100  # no gradient of x
Run = Callable[[int], object]  # trains for that many steps
Result = dict[str, float | str]  # "steps_per_s" or another quantity, and a "note"


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


def clock() -> float:
    """Seconds, once everything asked of the device is done."""
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(run: Run, steps: int) -> float:
    """Steps per second over `steps` steps, after a tenth as many untimed ones."""
    run(max(20, steps // 10))
    begin = clock()
    run(steps)
    return steps / (clock() - begin)


def fastest(runs: dict[str, Run], steps: int) -> Result:
    """Try each way for a tenth of the steps, then time the fastest; the note names it."""
    best = max(runs, key=lambda name: rate(runs[name], steps // 10)) if len(runs) > 1 else next(iter(runs))
    return {"steps_per_s": rate(runs[best], steps), "note": best}
