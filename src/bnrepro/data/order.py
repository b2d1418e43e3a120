"""Which examples make up which step's mini-batch: a pure function of (seed, step)."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrepro.streams import generator


def batch_indices(seed: int, examples: int, batch_size: int, start: int, stop: int) -> Tensor:
    """Indices of the mini-batches of steps start..stop-1, shape (stop - start, batch_size), int64.

    Each epoch is a fresh permutation cut into floor(examples / batch_size) batches; the remainder is left
    out. Nothing is carried from step to step, so a resumed run needs no generator state.
    """
    per_epoch = examples // batch_size
    epochs = []
    for epoch in range(start // per_epoch, -(-stop // per_epoch)):
        order = torch.randperm(examples, generator=generator("order", seed, epoch))
        epochs.append(order[: per_epoch * batch_size].view(per_epoch, batch_size))
    first = start // per_epoch * per_epoch
    return torch.cat(epochs)[start - first : stop - first]
