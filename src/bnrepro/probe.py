"""Activation distributions, from a model's taps (Figures 1b and 1c)."""

from __future__ import annotations

import torch
from torch import Tensor

PERCENTILES = {"p15": 0.15, "p50": 0.50, "p85": 0.85}
EDGES = torch.linspace(-8, 8, 65)


def typical_unit(weight: Tensor) -> int:
    """The "typical" unit of a layer: the (lower) median one by norm of its initial incoming weights.

    weight (units, inputs), as drawn at initialization. The rule is fixed before training and looks at
    nothing that normalization changes, so that both arms of a seed watch the same unit.
    """
    norms = weight.norm(dim=1)
    return int(norms.argsort()[(len(norms) - 1) // 2])


def distribution(layer: str, u: Tensor, unit: int) -> dict[str, float]:
    """Percentiles 15, 50, 85 of the inputs u (examples, units) of a nonlinearity: of one unit, and of all."""
    u = u.float()
    levels = torch.tensor(list(PERCENTILES.values()), device=u.device)
    rows = {"typical": u[:, unit].quantile(levels), "all": u.flatten().quantile(levels)}
    return {
        f"probe/{layer}/{name}/{level}": value
        for name, row in rows.items()
        for level, value in zip(PERCENTILES, row.tolist(), strict=True)
    }


def histogram(u: Tensor) -> tuple[list[int], list[float]]:
    """Counts in 64 equal bins of [-8, 8] (what lies outside falls into the outermost), and the bin edges."""
    counts = torch.histc(u.float().clamp(-8, 8).nan_to_num(0.0), bins=64, min=-8, max=8)
    return counts.long().tolist(), EDGES.tolist()
