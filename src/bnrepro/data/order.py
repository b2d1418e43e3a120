"""Which examples make up which step's mini-batch: a pure function of (seed, step)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from bnrepro.streams import generator


def batch_indices(seed: int, examples: int, batch_size: int, start: int, stop: int) -> Tensor:
    """Indices of the mini-batches of steps start..stop-1, shape (stop - start, batch_size), int64.

    Each epoch is a fresh permutation cut into floor(examples / batch_size) batches; the remainder is left
    out. Nothing is carried from step to step, so a resumed run needs no generator state.
    """
    per_epoch = examples // batch_size
    epochs = [
        _permutation(seed, epoch, examples)[: per_epoch * batch_size].view(per_epoch, batch_size)
        for epoch in range(start // per_epoch, -(-stop // per_epoch))
    ]
    first = start // per_epoch * per_epoch
    whole = epochs[0] if len(epochs) == 1 else torch.cat(epochs)
    return whole[start - first : stop - first]


@functools.lru_cache(maxsize=32)  # half a megabyte each on MNIST; steps are asked for a few at a time
def _permutation(seed: int, epoch: int, examples: int) -> Tensor:
    return torch.randperm(examples, generator=generator("order", seed, epoch))
