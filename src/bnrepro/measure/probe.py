"""Distributions of activations (Figures 1b and 1c), and the noise of mini-batch statistics (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnrepro.config.address import shared_model
from bnrepro.data import Dataset
from bnrepro.data.dataset import Images
from bnrepro.measure.evaluate import Values, training_rows
from bnrepro.measure.metrics import BINS, EDGES
from bnrepro.measure.net import Net, net_of
from bnrepro.models import MLP
from bnrepro.rng import generator
from bnrepro.training.engines import Engine
from bnrepro.training.optim import Tensors
from bnrepro.training.state import State

PERCENTILES = {"p15": 0.15, "p50": 0.50, "p85": 0.85}
PROBE_BATCHES = 10
NOISE_BATCHES = (4, 8, 16, 32, 64, 128, 256, 512)  # sizes at which the noise is measured
NOISE_DRAWS, NOISE_EXAMPLES, NOISE_COMPANIONS, NOISE_IMAGES = 400, 5, 40, 20_000
NOISE_CHUNK = 100  # training images that are mapped at once; what does not fill it is left out
Histogram = tuple[list[int], list[float]]


@dataclass
class Taps(Net):
    """(params, buffers, rows (m,), images) -> inputs of the watched nonlinearities, (values, units) each."""

    layers: tuple[str, ...] = ()

    def __call__(self, params: Tensors, buffers: Tensors, rows: Tensor, images: Images) -> tuple[Tensor, ...]:
        taps = self.forward(params, buffers, self.inputs(images, rows))[1]
        return tuple(by_unit(taps[layer]) for layer in self.layers)


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


def watched(engine: Engine, state: State, data: Dataset, batch_size: int, layers: list[str]) -> Tensors:
    """Inputs of nonlinearities on each seed's first 10 mini-batches, {layer: (S, values, units)}.

    Of feature maps 16 locations an image, evenly spread. As in the paper the network is in training mode: each
    mini-batch is normalized by its own statistics. Dropout is off.
    """
    function = Taps(**net_of(data, shared_model(engine.cfg.model), "batch"), layers=tuple(layers))
    rows = [training_rows(data, batch_size, r.seed, PROBE_BATCHES) for r in state.replicas]
    found = engine.apply(function, state, [torch.stack(rows)], ["images"])
    return {layer: u.flatten(1, 2) for layer, u in zip(layers, found, strict=True)}


def distributions(layer: str, u: Tensor, units: list[int], single: bool = False) -> Values:
    """Percentiles 15, 50, 85 of inputs u (S, values, units): of each net's typical unit, and of all units.

    single: also of every unit by itself.
    """
    u, replicas = u.float(), torch.arange(len(u))
    levels = torch.tensor(list(PERCENTILES.values()))
    found = {
        "typical": u[replicas, :, units].quantile(levels, dim=1),
        "all": u.flatten(1).quantile(levels, dim=1),
    }
    if single:
        found |= {f"unit{i}": one for i, one in enumerate(u.quantile(levels, dim=1).unbind(-1))}
    columns = {
        f"probe/{layer}/{name}/{level}": values.tolist()
        for name, rows in found.items()
        for level, values in zip(PERCENTILES, rows, strict=True)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def histogram(u: Tensor) -> Histogram:
    """Counts in the bins of `metrics.EDGES` (what lies outside falls into the outermost), and the edges.

    NaN is no activation: it is left out.
    """
    low, high = EDGES[0], EDGES[-1]
    counts = torch.histc(u[~u.isnan()].float().clamp(low, high), bins=BINS, min=low, max=high)
    return counts.long().tolist(), EDGES


@dataclass
class LastMapped(Net):
    """(params, buffers, rows (n,), images) -> Wu + b of the last hidden layer, before BN, (n, units)."""

    def __call__(self, params: Tensors, buffers: Tensors, rows: Tensor, images: Images) -> tuple[Tensor, ...]:
        net = {f"net.{name}": tensor for name, tensor in (params | buffers).items()}
        return (functional_call(_UpToLast(self.module()), net, (self.inputs(images, rows),)),)


class _UpToLast(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.net, MLP)
        for i in range(len(self.net.hidden) - 1):
            x = self.net.layer(i, x)[1]
        return self.net.hidden[-1](x)


@dataclass
class FirstLogits(Net):
    """(params, buffers, example (1,), companions (m - 1,), eval_images, images) -> the example's logits."""

    def __call__(
        self,
        params: Tensors,
        buffers: Tensors,
        example: Tensor,
        companions: Tensor,
        eval_images: Tensor,
        images: Tensor,
    ) -> tuple[Tensor, ...]:
        x = torch.cat([self.inputs(eval_images, example), self.inputs(images, companions)])
        return (self.forward(params, buffers, x)[0][0],)


def batch_noise(engine: Engine, state: State, data: Dataset, units: list[int]) -> Values:
    """How much BN's statistics vary from mini-batch to mini-batch of M random training examples.

    Of the typical unit's Wu in the last hidden layer, with sigma^2 and kurtosis over the training set:
    noise/mu/mM = Var[mu_B] / sigma^2 (theory: 1/M), noise/var/mM = Var[var_B] / sigma^4 (theory: M3 below),
    over 400 mini-batches drawn with replacement; noise/kurtosis. And noise/logit/mM: the variance of a test
    example's logits over 40 random sets of M - 1 companions, mean over 5 examples and all classes.

    Theory of var_B, biased: (M-1)^2 / M^3 * (kurtosis - (M-3) / (M-1)).
    """
    model = shared_model(engine.cfg.model)
    count = min(NOISE_IMAGES, data.examples) // NOISE_CHUNK * NOISE_CHUNK
    seen = [data.seen(replica.seed, torch.arange(count)) for replica in state.replicas]
    rows = torch.stack(seen).view(len(seen), -1, NOISE_CHUNK)
    mapped = engine.apply(LastMapped(**net_of(data, model)), state, [rows], ["images"])[0].flatten(1, 2)
    draws = [generator("noise", replica.seed) for replica in state.replicas]
    values: Values = [{} for _ in draws]
    z = torch.stack([u[:, unit] for u, unit in zip(mapped, units, strict=True)]).double()  # (S, count)
    centred = z - z.mean(1, keepdim=True)
    var = centred.square().mean(1)
    for found, kurtosis in zip(values, centred.pow(4).mean(1) / var**2, strict=True):
        found["noise/kurtosis"] = kurtosis.item()
    function = FirstLogits(**net_of(data, model, "batch"))
    examples = torch.arange(NOISE_EXAMPLES).repeat_interleave(NOISE_COMPANIONS).view(1, -1, 1)
    for m in NOISE_BATCHES:
        companions = []
        for s, draw in enumerate(draws):
            batches = z[s][torch.randint(count, (NOISE_DRAWS, m), generator=draw)]
            values[s][f"noise/mu/m{m}"] = (batches.mean(1).var() / var[s]).item()
            values[s][f"noise/var/m{m}"] = (batches.var(1, correction=0).var() / var[s] ** 2).item()
            each = (NOISE_EXAMPLES, NOISE_COMPANIONS, m - 1)
            companions.append(seen[s][torch.randint(count, each, generator=draw).flatten(0, 1)])
        given = [examples, torch.stack(companions)]
        (logits,) = engine.apply(function, state, given, ["eval_images", "images"])
        spread = logits.unflatten(1, (NOISE_EXAMPLES, NOISE_COMPANIONS)).var(2).mean((1, 2))
        for found, variance in zip(values, spread.tolist(), strict=True):
            found[f"noise/logit/m{m}"] = variance
    return values
