"""What the machine could do if a step were nothing but large matrix products, in float32.

On a CPU: one process a core, one thread each, all at once, with the best library there is.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import torch
from torch.nn.functional import linear

from benchmarks.task import FLOP_PER_STEP, Result, Run, cores, crew, device, openblas_kernel, rate

SIDE = 2048
ONE_PRODUCT = f"import torch; a = torch.randn({SIDE}, {SIDE}).to_mkldnn(); torch.nn.functional.linear(a, a)"


def products(library: str) -> Run:
    """Multiplies two square matrices so many times."""
    a, b, c = torch.randn(3, SIDE, SIDE)
    if library == "numpy":
        x, y, out = a.numpy(), b.numpy(), c.numpy()
        return lambda count: [np.matmul(x, y, out=out) for _ in range(count)]
    if library == "oneDNN":  # torch.mm does not reach it in float32, `linear` on its own tensors does
        u, v = a.to_mkldnn(), b.to_mkldnn()
        return lambda count: [linear(u, v) for _ in range(count)]
    return lambda count: [torch.mm(a, b, out=c) for _ in range(count)]


def best_flop_per_s() -> tuple[float, str]:
    """Operations a second of all cores together, and whose they are: library and kernel."""
    if device().type == "cuda":  # without TF32, which torch leaves off
        a, b = torch.randn(2, 8192, 8192, device="cuda")
        return rate(lambda n: [a @ b for _ in range(n)], 50) * 2 * 8192**3, "8192 square"
    rates = {
        library: rate(crew(products, [(library,)] * len(cores())), 5)
        for library in ("numpy", "oneDNN", "torch.mm")
    }
    best = max(rates, key=lambda library: rates[library])
    names = {"numpy": f"numpy's OpenBLAS, {openblas_kernel()}", "torch.mm": "torch.mm"}
    name = names.get(best) or f"oneDNN, {_onednn_kernel()}"
    return len(cores()) * rates[best] * 2 * SIDE**3, f"{SIDE} square, {name}"


def _onednn_kernel() -> str:
    """As oneDNN itself says, such as brg_matmul:avx512_core."""
    environment = os.environ | {"ONEDNN_VERBOSE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", ONE_PRODUCT], env=environment, capture_output=True, text=True
    ).stdout
    fields = [line.split(",") for line in said.splitlines()]
    return next((f[6] for f in fields if f[3:4] == ["exec"] and f[5] == "inner_product"), "unknown kernel")


def limit(steps: int) -> Result:
    """Steps a second at the rate of large square products; that rate itself in GFLOP/s."""
    flop_per_s, how = best_flop_per_s()
    return {
        "replica_steps_per_s": flop_per_s / FLOP_PER_STEP,
        "limit_gflops": flop_per_s / 1e9,
        "note": how,
    }
