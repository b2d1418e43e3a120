"""A data set in memory or mapped, and how its rows become a network's input."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bnrepro.config import DataConfig
from bnrepro.data.augment import augmented
from bnrepro.rng import generator


class DataError(RuntimeError):
    """Data that is missing, altered or too small; the message is one line and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message.encode(errors="backslashreplace").decode()
        )  # it may name a file of any bytes


Images: TypeAlias = (
    Any  # uint8 images by index: a tensor, in memory or mapped, or a Stream, decoded when asked
)


def inputs(rows: Tensor, scale: float, offset: float) -> Tensor:
    """uint8 rows (n, 784) or (n, H, W, 3) -> (n, 784) or (n, 3, H, W), the latter channels last in memory."""
    x = rows.float() * scale
    return x if rows.ndim == 2 else (x + offset).permute(0, 3, 1, 2)


def varied(rows: Tensor, key: Tensor, augment: DataConfig, scale: float, offset: float) -> Tensor:
    """`inputs` of colour images, varied as step key = (seed, step) asks: as in training."""
    x = augmented(rows, key, augment)
    return (x * (255 * scale) + offset).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=1024)
def _subset(seed: int, examples: int, kept: int) -> Tensor:
    """(kept,) int64; fewer are a subset of more."""
    return torch.randperm(examples, generator=generator("examples", seed))[:kept].clone()


@dataclass
class Dataset:
    """Images (N, 784) or (N, H, W, 3) uint8, and labels (N,) int64.

    A network's input is images * scale + offset: (n, 784) in [0, 1], or (n, 3, H, W) in [-1, 1].
    `split` names the images that accuracy is reported on: "test", or "val" for a validation split.
    """

    images: Images
    labels: Tensor
    eval_images: Images
    eval_labels: Tensor
    scale: float
    split: str
    offset: float = 0.0
    classes: int = 10
    augment: DataConfig | None = None  # how training images are varied; None: they are not
    test_images: Images = None  # where the split is "val"
    test_labels: Tensor | None = None
    kept: int = 0  # training images that a seed sees, a subset of its own (data.examples); 0: all

    @property
    def examples(self) -> int:
        """Training images that a seed sees."""
        return self.kept or len(self.labels)

    def seen(self, seed: int, index: Tensor) -> Tensor:
        """Which training images `seed` means by 0 ... examples - 1: index of any shape, int64, on the CPU."""
        return _subset(seed, len(self.labels), self.kept)[index] if self.kept else index

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def flat(self) -> bool:
        return len(self.images.shape) == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (784,) or (H, W, 3)."""
        return tuple(self.images.shape[1:])

    def to(self, device: torch.device) -> Dataset:
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def inputs(self, rows: Tensor) -> Tensor:
        """rows (n, 784) or (n, H, W, 3) -> (n, 784) or (n, 3, H, W), the latter channels last in memory."""
        return inputs(rows.to(self.device), self.scale, self.offset)

    def batches(self, index: Tensor, keys: Tensor) -> Tensor:
        """`batch` of K steps, index (K, m), keys (K, 2) -> (K, m, ...)."""
        if self.flat:
            rows = self.images.index_select(0, index.flatten())  # images[index] takes eight times as long
            return rows.float().mul_(self.scale).view(*index.shape, -1)
        return torch.stack([self.batch(i, key) for i, key in zip(index, keys, strict=True)])

    def batch(self, index: Tensor, key: Tensor) -> Tensor:
        """The network's input for the training images index (m,), varied as step key = (seed, step) asks."""
        if self.augment is None:
            return self.inputs(self.images[index])
        return varied(self.images[index].to(key.device), key, self.augment, self.scale, self.offset)
