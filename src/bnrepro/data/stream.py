"""Images that stay in their files and are decoded whenever they are asked for (data.decode=stream)."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from bnrepro import machine
from bnrepro.data.dataset import DataError
from bnrepro.data.decode import decode, warn_once
from bnrepro.data.source import Source


@functools.cache
def _threads(process: int) -> ThreadPoolExecutor:
    """A pool of each process's own: threads do not survive a fork."""
    return ThreadPoolExecutor(machine.cores(), "decode")


class Stream:
    """Images (N, size, size, 3) that look like a uint8 tensor.

    `stream[index]`, index as for a tensor, decodes them: (..., size, size, 3) uint8. A corrupt image raises
    DataError there; with `skip` it is black, with one warning: it is too late to leave its label out.
    """

    def __init__(self, sources: Sequence[Source], size: int, skip: bool) -> None:
        self.sources, self.size, self.skip = sources, size, skip
        self._positions = torch.arange(len(sources))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), self.size, self.size, 3))

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        which = self._positions[index.cpu() if isinstance(index, Tensor) else index]
        out = np.empty((which.numel(), self.size, self.size, 3), np.uint8)
        list(_threads(os.getpid()).map(self._decode_into, out, which.flatten().tolist()))
        return torch.from_numpy(out).view(*which.shape, self.size, self.size, 3)

    def select(self, index: Tensor | slice) -> Stream:
        """A stream of some of the images; decodes nothing."""
        return Stream([self.sources[i] for i in self._positions[index].tolist()], self.size, self.skip)

    def _decode_into(self, row: np.ndarray, position: int) -> None:
        try:
            row[:] = decode(self.sources[position], self.size)
        except DataError as error:
            if not self.skip:
                raise
            warn_once(f"shown as black: {error}")
            row[:] = 0
