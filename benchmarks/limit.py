"""What the machine could do if a step were nothing but its matrix products, in float32.

On a CPU: one process a core, one thread each, all at once.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import numpy as np
import torch

from benchmarks.task import BATCH, FLOP_PER_STEP, Result, device, rate

SQUARE = [(2048, 2048, 2048)]
LAYERS = [(784, 100), (100, 100), (100, 100), (100, 10)]
STEP = [  # forward, gradient of the weights, gradient of the layer's input
    *((BATCH, i, o) for i, o in LAYERS),
    *((i, BATCH, o) for i, o in LAYERS),
    *((BATCH, o, i) for i, o in LAYERS[1:]),
]
SECONDS = 1.0
Shapes = list[tuple[int, int, int]]


def _one_core(library: str, shapes: Shapes, barrier, queue) -> None:
    """Put the operations a second of this process at (m, k) @ (k, n) for every (m, k, n) of shapes."""
    torch.set_num_threads(1)
    tensors = [[torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)] for m, k, n in shapes]
    operands: list[list[Any]] = [[t if library == "torch" else t.numpy() for t in three] for three in tensors]
    multiply: Any = torch.mm if library == "torch" else np.matmul

    def passes(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            for a, b, c in operands:
                multiply(a, b, out=c)
        return time.perf_counter() - begin

    passes(1)
    count = max(1, int(SECONDS * 3 / passes(3)))
    barrier.wait(timeout=60)
    queue.put(sum(2 * m * k * n for m, k, n in shapes) * count / passes(count))


def _all_cores(library: str, shapes: Shapes) -> float:
    """Operations a second of all cores together. Forks: nothing may have started BLAS's threads before."""
    context, cores = multiprocessing.get_context("fork"), os.cpu_count() or 1
    barrier, queue = context.Barrier(cores), context.Queue()
    jobs = [context.Process(target=_one_core, args=(library, shapes, barrier, queue)) for _ in range(cores)]
    for job in jobs:
        job.start()
    total = sum(queue.get(timeout=60) for _ in jobs)
    for job in jobs:
        job.join()
    return total


def _result(flop_per_s: float, how: str) -> Result:
    return {"steps_per_s": flop_per_s / FLOP_PER_STEP, "note": f"{how}, {flop_per_s / 1e9:.0f} GFLOP/s"}


def sgemm(steps: int) -> Result:
    """Large square matrices: on a CPU the better of torch's BLAS and numpy's, on CUDA without TF32."""
    if device().type == "cuda":
        a, b = torch.randn(2, 8192, 8192, device="cuda")
        return _result(rate(lambda n: [a @ b for _ in range(n)], 50) * 2 * 8192**3, "8192 square")
    rates = {library: _all_cores(library, SQUARE) for library in ("torch", "numpy")}
    best = max(rates, key=lambda library: rates[library])
    return _result(rates[best], f"2048 square, BLAS of {best}")


def sgemm_shapes(steps: int) -> Result:
    """The eleven products of a step and nothing between them: what their shapes leave of the limit."""
    return _result(_all_cores("torch", STEP), "torch.mm, CPU")
