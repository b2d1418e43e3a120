"""The network of section 4.2: Inception with the filters of the paper's Figure 5."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from bnrepro.config import InceptionConfig
from bnrepro.models.mlp import ACTIVATIONS
from bnrepro.models.normalization import normalization
from bnrepro.rng import generator, keep_mask


class BlockSpec(NamedTuple):
    """A row of Figure 5: numbers of maps; 0: no such branch, or no projection after pooling."""

    stride: int
    one: int  # 1x1
    reduce3: int  # 1x1 before
    three: int  # the 3x3
    reduce_d3: int  # 1x1 before
    double3: int  # two 3x3, both of this width
    pool: str
    project: int  # 1x1 after pooling


# The printed table gives the outputs of 4c and 4d as 576 maps and of 4e as 1024, but their filters add up to
# 608, 608 and 1056; nor do the text's 13.6 million parameters follow from it: tests/test_inception.py.
FIGURE5 = {
    "3a": BlockSpec(1, 64, 64, 64, 64, 96, "avg", 32),
    "3b": BlockSpec(1, 64, 64, 96, 64, 96, "avg", 64),
    "3c": BlockSpec(2, 0, 128, 160, 64, 96, "max", 0),
    "4a": BlockSpec(1, 224, 64, 96, 96, 128, "avg", 128),
    "4b": BlockSpec(1, 192, 96, 128, 96, 128, "avg", 128),
    "4c": BlockSpec(1, 160, 128, 160, 128, 160, "avg", 128),
    "4d": BlockSpec(1, 96, 128, 192, 160, 192, "avg", 128),
    "4e": BlockSpec(2, 0, 128, 192, 192, 256, "max", 0),
    "5a": BlockSpec(1, 352, 192, 320, 160, 224, "avg", 128),
    "5b": BlockSpec(1, 352, 192, 320, 192, 224, "max", 128),
}
DEPTHWISE = 8  # maps per colour of a separable first convolution


class ConvNormAct(nn.Module):
    """g(BN(W * x)) or g(W * x + b): x (N, in, H, W) -> input and output of g, (N, out, H', W')."""

    def __init__(self, cfg: InceptionConfig, maps: tuple[int, int], size: int, stride: int = 1, at: int = 0):
        super().__init__()
        self.at = at  # height and width of the output, where BN takes statistics for every location
        bias = cfg.norm == "none" if cfg.bias == "auto" else cfg.bias == "on"
        self.conv: nn.Module = nn.Conv2d(*maps, size, stride, size // 2, bias=bias)
        self.norm = normalization(cfg, maps[1] * max(1, at * at), spatial=not at)
        self.activation = ACTIVATIONS[cfg.activation]
        self.normalized_first = cfg.placement == "before"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.conv(x)
        u = self._normalized(u) if self.normalized_first else u
        h = self.activation(u)
        return u, h if self.normalized_first else self._normalized(h)

    def _normalized(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(1)).view(x.shape) if self.at else self.norm(x)


class InceptionBlock(nn.Module):
    """One block of Figure 5: branches side by side, their maps concatenated."""

    def __init__(self, cfg: InceptionConfig, maps: int, block: BlockSpec, at: int) -> None:
        super().__init__()
        self.stride, self.pool = block.stride, block.pool
        one, r3, three, rd3, double3, project = (
            width(n, cfg)
            for n in (block.one, block.reduce3, block.three, block.reduce_d3, block.double3, block.project)
        )
        last = at // block.stride if cfg.per_activation else 0  # only asked for where stride is 1
        before = at if cfg.per_activation else 0
        self.one = ConvNormAct(cfg, (maps, one), 1, at=last) if one else None
        self.three = nn.ModuleList(
            [ConvNormAct(cfg, (maps, r3), 1, at=before), ConvNormAct(cfg, (r3, three), 3, block.stride, last)]
        )
        self.double3 = nn.ModuleList(
            [
                ConvNormAct(cfg, (maps, rd3), 1, at=before),
                ConvNormAct(cfg, (rd3, double3), 3, at=before),
                ConvNormAct(cfg, (double3, double3), 3, block.stride, last),
            ]
        )
        self.project = ConvNormAct(cfg, (maps, project), 1, at=last) if project else None
        self.maps = one + three + double3 + (project or maps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, in, H, W) -> input of the double 3x3's last nonlinearity, and the block's output."""
        branches = [self.one(x)[1]] if self.one is not None else []
        for units in (self.three, self.double3):
            h, u = x, x
            for unit in units:
                u, h = unit(h)
            branches.append(h)
        if self.pool == "avg":
            pooled = avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
        else:
            pooled = max_pool2d(x, 3, self.stride, 1)
        branches.append(self.project(pooled)[1] if self.project is not None else pooled)
        return u, torch.cat(branches, 1)


class Inception(nn.Module):
    """Inception (paper Figure 5); number of maps times cfg.multiplier, in steps of 4.

    conv1 is 7x7/2 (stem=imagenet) or 5x5/1 (stem=small: 64 x 64 pixels reach block 5 as 4 x 4). The paper's
    conv1 is separable; the plain one is the default, as in other implementations.

    Kernels are drawn from N(0, (cfg.init_scale * s)^2) in the order of the modules, s^2 = 2 / fan_in for ReLU
    and 1 / fan_in else (He et al. 2015, arXiv:1502.01852), biases are zero. The paper does not state them.

    forward: x (N, 3, H, W), key (2,) int64 (seed, step) for dropout before the classifier,
    dropout_rate () where it is not the configured one -> logits (N, classes) and taps (N, maps, H', W'), inputs of one
    nonlinearity of each block: {"conv1": ..., "conv2": ..., "3a": ..., ..., "5b": ...}.
    """

    def __init__(self, cfg: InceptionConfig, size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        per_map = _without_locations(cfg)
        c1, reduced, c2 = (width(n, cfg) for n in (64, 64, 192))
        large = cfg.stem == "imagenet"
        self.conv1 = ConvNormAct(per_map, (3, c1), 7 if large else 5, 2 if large else 1)
        if cfg.separable:
            size7, stride = (7, 2) if large else (5, 1)
            bias = self.conv1.conv.bias is not None
            spread = nn.Conv2d(3, 3 * DEPTHWISE, size7, stride, size7 // 2, groups=3, bias=False)
            self.conv1.conv = nn.Sequential(spread, nn.Conv2d(3 * DEPTHWISE, c1, 1, bias=bias))
        self.reduce2, self.conv2 = (
            ConvNormAct(per_map, (c1, reduced), 1),
            ConvNormAct(per_map, (reduced, c2), 3),
        )
        at = math.ceil(math.ceil((math.ceil(size / 2) if large else size) / 2) / 2)
        self.blocks, maps = nn.ModuleDict(), c2
        for name, row in FIGURE5.items():
            block = InceptionBlock(cfg if name == "5b" else per_map, maps, row, at)
            self.blocks[name], maps, at = block, block.maps, math.ceil(at / row.stride)
        self.classifier = nn.Linear(maps, classes)
        self.lrn = local_response_norm if cfg.lrn else nn.Identity()
        self.dropout, self.init_scale = cfg.dropout, cfg.init_scale
        self.gain = 2.0 if cfg.activation == "relu" else 1.0

    def probed(self) -> dict[str, Tensor]:
        """Of every tap the weights behind it, (maps, fan in)."""
        units = {"conv1": self.conv1, "conv2": self.conv2}
        for name, block in self.blocks.items():
            units[name] = cast(ConvNormAct, cast(InceptionBlock, block).double3[-1])
        kernels = {name: [p for p in unit.conv.parameters() if p.ndim == 4] for name, unit in units.items()}
        return {name: each[-1].flatten(1) for name, each in kernels.items()}

    def reset(self, seed: int) -> Inception:
        """Draw the initial weights of `seed`."""
        draw = generator("init", seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    fan_in = module.weight[0].numel()
                    gain = self.gain if isinstance(module, nn.Conv2d) else 1.0
                    scale = self.init_scale if isinstance(module, nn.Conv2d) else 1.0
                    module.weight.normal_(0, scale * math.sqrt(gain / fan_in), generator=draw)
                    if module.bias is not None:
                        module.bias.zero_()
        return self

    def forward(
        self, x: Tensor, key: Tensor | None = None, dropout_rate: float | Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        taps = {}
        taps["conv1"], x = self.conv1(x)
        x = self.lrn(max_pool2d(x, 3, 2, 1))
        taps["conv2"], x = self.conv2(self.reduce2(x)[1])
        x = max_pool2d(self.lrn(x), 3, 2, 1)
        for name, block in self.blocks.items():
            taps[name], x = block(x)
        x = x.mean((2, 3))
        if self.training and self.dropout:
            assert key is not None, "dropout in training needs its key (seed, step)"
            dropout_rate = self.dropout if dropout_rate is None else dropout_rate
            x = x * keep_mask(key, 0, x.shape, dropout_rate) / (1 - dropout_rate)
        return self.classifier(x), taps


def local_response_norm(x: Tensor, size: int = 5, alpha: float = 1e-4) -> Tensor:
    """x / (1 + alpha / size * sum of squares over `size` neighbouring maps)^0.75, x (N, C, H, W).

    Equal to nn.LocalResponseNorm(5), as a 1x1 convolution with a banded kernel: 5 times as fast on a CPU,
    where torch's averages in a fifth dimension and takes a power: more than half of a training step.
    """
    maps = torch.arange(x.shape[1], device=x.device)
    band = ((maps[:, None] - maps).abs() <= size // 2).to(x.dtype) * (alpha / size)
    root = torch.rsqrt(1 + conv2d(x.square(), band[:, :, None, None]))
    return x * (root * root.sqrt())


def width(maps: int, cfg: InceptionConfig) -> int:
    """Maps of a layer that has `maps` at multiplier 1: a multiple of 4, at least 4 (0 stays 0)."""
    return max(4, round(maps * cfg.multiplier / 4) * 4) if maps else 0


def _without_locations(cfg: InceptionConfig) -> InceptionConfig:
    return replace(cfg, per_activation=False)
