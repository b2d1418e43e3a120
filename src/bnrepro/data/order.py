"""Which examples make up which step's mini-batch: a pure function of (seed, step)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from bnrepro.rng import generator


def batch_indices(
    seed: int, examples: int, batch_size: int, start: int, stop: int, shuffle: str = "thorough"
) -> Tensor:
    """Indices of the mini-batches of steps start..stop-1, shape (stop - start, batch_size), int64.

    Each epoch is a fresh permutation cut into floor(examples / batch_size) batches; the remainder is left
    out. Nothing is carried from step to step, so a resumed run needs no generator state.

    shuffle="shards" is the poorer order before change 6 of section 4.2.1: one permutation cut into shards for
    good, here of one mini-batch each, and only the order of the shards is drawn anew every epoch, so that the
    same examples always appear together.
    """
    per_epoch = examples // batch_size
    epochs = []
    for epoch in range(start // per_epoch, -(-stop // per_epoch)):
        order = _permutation(seed, 0 if shuffle == "shards" else epoch, examples)
        batches = order[: per_epoch * batch_size].view(per_epoch, batch_size)
        epochs.append(batches[_shards(seed, epoch, per_epoch)] if shuffle == "shards" else batches)
    first = start // per_epoch * per_epoch
    whole = epochs[0] if len(epochs) == 1 else torch.cat(epochs)
    return whole[start - first : stop - first]


@functools.lru_cache(maxsize=32)  # half a megabyte each on MNIST; steps are asked for a few at a time
def _permutation(seed: int, epoch: int, examples: int) -> Tensor:
    return torch.randperm(examples, generator=generator("order", seed, epoch))


@functools.lru_cache(maxsize=32)
def _shards(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=generator("shards", seed, epoch))
