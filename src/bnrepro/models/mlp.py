"""The network of section 4.1: fully connected hidden layers and a linear classifier."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from bnrepro.config import MLPConfig
from bnrepro.models.normalization import normalization
from bnrepro.rng import generator, keep_mask, uniform

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu, "tanh": torch.tanh}


class MLP(nn.Module):
    """depth x width hidden layers, each g(BN(Wu)) or g(Wu + b), then a linear layer (logits).

    Where BN follows the weights directly, beta takes the bias's place (section 3.2); so it does, as is usual, with
    GroupNorm and LayerNorm, whose statistics would not take a bias away. Weights are drawn from
    N(0, init_std^2) in layer order, biases are zero: a seed gives every variant the same weights.

    forward: x (N, in_features), key (2,) int64 (seed, step) for dropout and injected noise, dropout_rate ()
    where it is not the configured one -> logits (N, classes) and taps, the input of each
    nonlinearity by layer name: {"hidden1": (N, width), ...}.
    """

    def __init__(self, cfg: MLPConfig, in_features: int = 784, classes: int = 10) -> None:
        super().__init__()
        widths = [in_features] + [cfg.width] * cfg.depth
        norms = nn.ModuleList(normalization(cfg, cfg.width) for _ in range(cfg.depth))
        shifts = any(name.rpartition(".")[2] in ("beta", "bias") for name, _ in norms.named_parameters())
        bias = not shifts or cfg.placement == "after"
        bias = bias if cfg.bias == "auto" else cfg.bias == "on"
        self.hidden = nn.ModuleList(nn.Linear(i, o, bias=bias) for i, o in pairwise(widths))
        if cfg.norm == "weight":  # Salimans & Kingma 2016, arXiv:1602.07868
            self.hidden = nn.ModuleList(weight_norm(linear) for linear in self.hidden)
        self.norms = norms
        self.classifier = nn.Linear(widths[-1], classes)
        self.activation, self.dropout, self.init_std = ACTIVATIONS[cfg.activation], cfg.dropout, cfg.init_std
        self.normalized_first, self.noise = cfg.placement == "before", cfg.noise

    def weights(self) -> list[Tensor]:
        """The weight matrices (out, in) in layer order, the classifier's last."""
        return [cast(Tensor, linear.weight) for linear in [*self.hidden, self.classifier]]

    def probed(self) -> dict[str, Tensor]:
        """Of the last hidden layer, whose tap is watched, the weights (units, inputs)."""
        return {f"hidden{len(self.hidden)}": self.weights()[-2]}

    def reset(self, seed: int) -> MLP:
        """Draw the initial weights of `seed`."""
        draw = generator("init", seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            for linear in [*self.hidden, self.classifier]:
                weight = torch.empty(linear.weight.shape).normal_(0, self.init_std, generator=draw)
                if is_parametrized(linear):
                    linear.weight = weight  # direction and length are set so that it is their product
                else:
                    linear.weight.copy_(weight)
        return self

    def layer(
        self, i: int, x: Tensor, key: Tensor | None = None, dropout_rate: float | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden layer i (from 0): x (N, in) -> u, the nonlinearity's input, and h, the layer's output."""
        return self.activated(i, self.hidden[i](x), key, dropout_rate)

    def activated(
        self, i: int, mapped: Tensor, key: Tensor | None = None, dropout_rate: float | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`layer` from mapped = Wx + b on."""
        norm, u = self.norms[i], mapped
        if self.normalized_first:
            u = norm(u)
        if self.training and self.noise and key is not None:
            u = _noisy(u, key, i, self.noise)
        h = self.activation(u)
        if not self.normalized_first:
            h = norm(h)
        if self.training and self.dropout:
            assert key is not None, "dropout in training needs its key (seed, step)"
            dropout_rate = self.dropout if dropout_rate is None else dropout_rate
            h = h * keep_mask(key, i, h.shape, dropout_rate) / (1 - dropout_rate)
        return u, h

    def forward(
        self, x: Tensor, key: Tensor | None = None, dropout_rate: float | Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        taps = {}
        for i in range(len(self.hidden)):
            taps[f"hidden{i + 1}"], x = self.layer(i, x, key, dropout_rate)
        return self.classifier(x), taps


def _noisy(u: Tensor, key: Tensor, layer: int, strength: float) -> Tensor:
    """Noise whose distribution differs from unit to unit and step to step (after arXiv:1805.11604).

    Sizes are ours. Each unit of each step has a mean from U(-0.5, 0.5) and a scale from U(1, 1.25); each
    example scatters around them by 0.1, uniformly. `strength` multiplies all: u -> scale * u + shift.
    """
    n, units = u.shape
    purpose = 1000 + 4 * layer  # dropout's are the layers' numbers
    mean, scale = uniform(key, purpose, (units,)) - 0.5, 0.25 * uniform(key, purpose + 1, (units,))
    shift = mean + 0.2 * uniform(key, purpose + 2, (n, units)) - 0.1
    scale = 1 + strength * (scale + 0.2 * uniform(key, purpose + 3, (n, units)) - 0.1)
    return scale * u + strength * shift
