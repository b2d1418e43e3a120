"""The network of section 4.1: fully connected hidden layers and a linear classifier."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bnrepro.config import ModelConfig
from bnrepro.norm import BatchNorm
from bnrepro.streams import generator, keep_mask

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu, "tanh": torch.tanh}


class MLP(nn.Module):
    """depth x width hidden layers, each g(BN(Wu)) or g(Wu + b), then a linear layer (logits).

    Without normalization a layer has a bias; with it beta takes the bias's place (section 3.2). Weights are
    drawn from N(0, init_std^2) in layer order, biases are zero: a seed gives every variant the same weights.

    forward: x (N, in_features), key (2,) int64 (seed, step) for dropout -> logits (N, classes) and taps,
    the input of each nonlinearity by layer name: {"hidden1": (N, width), ...}.
    """

    def __init__(self, cfg: ModelConfig, in_features: int = 784, classes: int = 10) -> None:
        super().__init__()
        widths = [in_features] + [cfg.width] * cfg.depth
        self.hidden = nn.ModuleList(nn.Linear(i, o, bias=cfg.norm == "none") for i, o in pairwise(widths))
        self.norms = nn.ModuleList(_normalization(cfg) for _ in self.hidden)
        self.classifier = nn.Linear(widths[-1], classes)
        self.activation, self.dropout, self.init_std = ACTIVATIONS[cfg.activation], cfg.dropout, cfg.init_std

    def weights(self) -> list[Tensor]:
        """The weight matrices (out, in) in layer order, the classifier's last."""
        return [linear.get_parameter("weight") for linear in [*self.hidden, self.classifier]]

    def reset(self, seed: int) -> MLP:
        """Draw the initial weights of `seed`."""
        draw = generator("init", seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            for weight in self.weights():
                weight.normal_(0, self.init_std, generator=draw)
        return self

    def forward(self, x: Tensor, key: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        taps = {}
        for i, (linear, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            u = taps[f"hidden{i + 1}"] = norm(linear(x))
            x = self.activation(u)
            if self.training and self.dropout:
                assert key is not None, "dropout in training needs its key (seed, step)"
                x = x * keep_mask(key, i, x.shape, self.dropout) / (1 - self.dropout)
        return self.classifier(x), taps


def _normalization(cfg: ModelConfig) -> nn.Module:
    match cfg.norm:
        case "bn":
            return BatchNorm(cfg.width, cfg.eps, cfg.bn_momentum)
        case "torch":
            return nn.BatchNorm1d(cfg.width, cfg.eps, cfg.bn_momentum)
        case _:
            return nn.Identity()
