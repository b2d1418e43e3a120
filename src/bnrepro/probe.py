"""Distributions of activations (Figures 1b and 1c), and the noise of mini-batch statistics (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrepro.data import Dataset
from bnrepro.models import MLP
from bnrepro.norm import normalization_layers
from bnrepro.streams import generator

PERCENTILES = {"p15": 0.15, "p50": 0.50, "p85": 0.85}
NOISE_BATCHES = (8, 16, 32, 60, 128, 256, 512)  # sizes at which the noise is measured
NOISE_DRAWS, NOISE_EXAMPLES, NOISE_COMPANIONS = 400, 5, 40
EDGES = torch.linspace(-8, 8, 65)


def typical_unit(weight: Tensor) -> int:
    """The "typical" unit of a layer: the (lower) median one by norm of its initial incoming weights.

    weight (units, inputs), as drawn at initialization. The rule is fixed before training and looks at
    nothing that normalization changes, so that both arms of a seed watch the same unit.
    """
    norms = weight.norm(dim=1)
    return int(norms.argsort()[(len(norms) - 1) // 2])


def by_unit(u: Tensor) -> Tensor:
    """Inputs of a nonlinearity as (values, units): maps (N, C, H, W) by 4 x 4 evenly spread locations."""
    if u.ndim == 2:
        return u
    h, w = (max(1, size // 4) for size in u.shape[2:])
    return u[:, :, h // 2 :: h, w // 2 :: w].permute(0, 2, 3, 1).flatten(0, 2)


def distribution(layer: str, u: Tensor, unit: int) -> dict[str, float]:
    """Percentiles 15, 50, 85 of the inputs u (examples, units) of a nonlinearity: of one unit, and of all."""
    return distributions(layer, u[None], [unit])[0]


def distributions(layer: str, u: Tensor, units: list[int]) -> list[dict[str, float]]:
    """`distribution` of S networks, u (S, examples, units): each has its own typical unit."""
    u, replicas = u.float(), torch.arange(len(u), device=u.device)
    levels = torch.tensor(list(PERCENTILES.values()), device=u.device)
    found = {
        "typical": u[replicas, :, units].quantile(levels, dim=1),
        "all": u.flatten(1).quantile(levels, dim=1),
    }
    columns = {
        f"probe/{layer}/{name}/{level}": values.tolist()
        for name, rows in found.items()
        for level, values in zip(PERCENTILES, rows, strict=True)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def histogram(u: Tensor) -> tuple[list[int], list[float]]:
    """Counts in 64 equal bins of [-8, 8] (what lies outside falls into the outermost), and the bin edges."""
    counts = torch.histc(u.float().clamp(-8, 8).nan_to_num(0.0), bins=64, min=-8, max=8)
    return counts.long().tolist(), EDGES.tolist()


@torch.no_grad()
def batch_noise(model: MLP, data: Dataset, unit: int, seed: int) -> dict[str, float]:
    """How much BN's statistics vary from mini-batch to mini-batch of M random training examples.

    Of the typical unit's Wu in the last hidden layer, with sigma^2 and kurtosis over the training set:
    noise/mu/mM = Var[mu_B] / sigma^2 (theory: 1/M), noise/var/mM = Var[var_B] / sigma^4 (theory: M3 below),
    over 400 mini-batches drawn with replacement; noise/kurtosis. And noise/logit/mM: the variance of a test
    example's logits over 40 random sets of M - 1 companions, mean over 5 examples and all classes.

    Theory of var_B, biased: (M-1)^2 / M^3 * (kurtosis - (M-3) / (M-1)). Moves the model's running statistics.
    """
    model.eval()
    draw, last = generator("noise", seed), len(model.hidden) - 1
    x = data.images[:20_000].float() * data.scale
    h = x
    for i in range(last):
        h = model.layer(i, h)[1]
    z = model.hidden[last](h)[:, unit].double()
    centred = z - z.mean()
    var = centred.square().mean()
    values = {"noise/kurtosis": (centred.pow(4).mean() / var**2).item()}
    examples = data.eval_images[:NOISE_EXAMPLES].float() * data.scale
    for layer in normalization_layers(model):
        layer.train()
    for m in NOISE_BATCHES:
        batches = z[torch.randint(len(z), (NOISE_DRAWS, m), generator=draw)]
        values[f"noise/mu/m{m}"] = (batches.mean(1).var() / var).item()
        values[f"noise/var/m{m}"] = (batches.var(1, correction=0).var() / var**2).item()
        companions = torch.randint(len(x), (NOISE_EXAMPLES, NOISE_COMPANIONS, m - 1), generator=draw)
        logits = torch.stack(
            [
                torch.stack([model(torch.cat([example[None], x[rows]]))[0][0] for rows in sets])
                for example, sets in zip(examples, companions, strict=True)
            ]
        )  # (examples, sets, classes)
        values[f"noise/logit/m{m}"] = logits.var(1).mean().item()
    return values
