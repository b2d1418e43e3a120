"""Random numbers as a function of (seed, purpose, step), so that arms pair and runs resume exactly.

Every purpose (init, order, dropout, ...) has a stream of its own: adding dropout to a net changes neither
its initial weights nor its batch order, and the same seed means the same ones in every variant.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


def generator(*address: str | int) -> torch.Generator:
    """A CPU generator seeded by a name, for example ("order", seed, epoch)."""
    digest = hashlib.sha256("/".join(map(str, address)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def step_keys(seed: int, start: int, stop: int) -> Tensor:
    """The keys of steps start..stop-1 of a seed, (stop - start, 2) int64: what `uniform` takes one of."""
    steps = torch.arange(start, stop)
    return torch.stack([torch.full_like(steps, seed), steps], 1)


def _mix(word: Tensor) -> Tensor:
    """The 32-bit finalizer `lowbias32` (github.com/skeeto/hash-prospector); int64 wraps, its lower half stays."""
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & _WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & _WORD
    return word ^ (word >> 16)


def uniform(key: Tensor, purpose: int, shape: Sequence[int]) -> Tensor:
    """Numbers in [0, 1), float32 of `shape`, a multiple of 2^-24: a hash of (key, purpose, position).

    `key` is (2,) int64: seed and step. Being a pure function of its arguments, the result is the same for a
    replica alone, stacked by vmap, compiled, resumed, or on another device; torch's generators are not.
    """
    element = torch.arange(math.prod(shape), device=key.device).view(*shape)
    word = _mix((key[0] + 0x9E3779B9 * (purpose + 1)) & _WORD)
    word = _mix((word + key[1]) & _WORD)
    return (_mix((word ^ element) & _WORD) >> 8).float() * 2.0**-24  # 24 bits: exact in float32


def keep_mask(key: Tensor, layer: int, shape: Sequence[int], dropout_rate: float | Tensor) -> Tensor:
    """Dropout's mask as float 0/1 of `shape`, addressed like `uniform`; zero with probability `dropout_rate`."""
    return (uniform(key, layer, shape) >= dropout_rate).float()
