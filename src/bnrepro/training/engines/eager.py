"""The reference engine: torch as it is, one replica after another, shared out among processes on a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bnrepro import machine
from bnrepro.data import Dataset
from bnrepro.models import build
from bnrepro.training.engines.base import Engine, Function
from bnrepro.training.optim import Tensors
from bnrepro.training.state import State
from bnrepro.training.step import Transform, autograd_and_value, make_step

PREFETCH = 10  # steps whose images are gathered and made floats at once: 1.9 MB at batch 60, cache-sized


class Eager(Engine):
    """Runs everything, everywhere. A process a core: two threads on one small step are slower than one.

    `threads` of a step of images depend on the settings and the machine alone (`machine.threads`), so that a replica
    is the same in company and alone; flat nets have one.
    """

    name = "eager"

    def __init__(
        self, state: State, data: Dataset, workers: int = 1, transform: Transform = autograd_and_value
    ) -> None:
        super().__init__(state.replicas, data)
        model = build(self.cfg.model, data.shape, data.classes)
        autocast = self.cfg.train.autocast == "bf16"
        self._step = make_step(model, self.cfg.optim, transform, autocast)
        self._pool: Executor | None = None
        if data.device.type == "cpu":
            self.threads = 1 if data.flat else min(workers, machine.threads())
        processes = min(workers // (self.threads or 1), len(state)) if machine.can_fork() else 1
        if self.threads is not None and processes > 1:
            for part in (state.params, state.buffers, state.velocity, {"": state.diverged_at}):
                for tensor in part.values():
                    tensor.share_memory_()
            _shared[id(self)] = (self, state)
            # Forked here, before anybody starts a thread.
            self._pool = machine.pool(processes, partial(torch.set_num_threads, self.threads))
        elif self.threads is not None:
            torch.set_num_threads(self.threads)
            if len(state) == 1 < workers and not data.flat and "OMP_NUM_THREADS" not in os.environ:
                self.note = (
                    f"one net, one core: OMP_NUM_THREADS={workers} gives it {workers}, with other last bits"
                )

    def advance(self, state: State, start: int, stop: int) -> Tensor:
        if self._pool is None:
            return torch.stack([self.advance_row(state, s, start, stop) for s in range(len(state))]).cpu()
        jobs = [self._pool.submit(_advance_row, id(self), s, start, stop) for s in range(len(state))]
        return torch.stack([torch.tensor(losses) for losses in machine.results(jobs)])

    def advance_row(self, state: State, s: int, start: int, stop: int) -> Tensor:
        """Replica s over steps start..stop-1: the losses (stop - start,), on the device."""
        device = self.data.device
        losses = torch.full((stop - start,), torch.nan, device=device)
        if state.diverged_at[s] >= 0:
            return losses
        row, rate = state.row(s), self.dropout_rates[s]
        prefetch = PREFETCH if self.data.flat else 1
        for begin in range(start, stop, prefetch):
            end = min(begin + prefetch, stop)
            index, rates, keys = (part.to(device) for part in self.batches(s, begin, end))
            each = zip(self.data.batches(index, keys), self.data.labels[index], rates, keys, strict=True)
            losses[begin - start : end - start] = torch.stack([self._step(*row, *b, rate) for b in each])
        return losses

    def apply(
        self, function: Function, state: State, batches: Sequence[Tensor], shared: Sequence[str]
    ) -> list[Tensor]:
        rows = [[part[s % len(part)] for part in batches] for s in range(len(state))]
        if self._pool is None:
            each = [self.apply_row(function, state.row(s)[:2], row, shared) for s, row in enumerate(rows)]
        else:
            own = _shared[id(self)][1]
            others = [
                None if mine is theirs else mine for mine, theirs in _pairs(state, own)
            ]  # not shared: sent
            jobs = []
            for s, row in enumerate(rows):
                sent = [
                    part and {name: tensor[s].numpy() for name, tensor in part.items()} for part in others
                ]
                batch = [part.numpy() for part in row]
                jobs.append(self._pool.submit(_apply_row, id(self), function, s, sent, batch, shared))
            each = [[torch.from_numpy(part) for part in found] for found in machine.results(jobs)]
        return [torch.stack(parts) for parts in zip(*each, strict=True)]

    def apply_row(
        self, function: Function, net: Sequence[Tensors], batches: Sequence[Tensor], shared: Sequence[str]
    ) -> list[Tensor]:
        """`function` of one replica, (params, buffers), and every batch: its tensors, with an axis B first."""
        whole = [getattr(self.data, name) for name in shared]
        moved = [part.to(self.data.device) for part in batches]
        found = [function(*net, *batch, *whole) for batch in zip(*moved, strict=True)]
        return [torch.stack(parts).cpu() for parts in zip(*found, strict=True)]

    def close(self) -> None:
        _shared.pop(id(self), None)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


# What forked processes see of their parent: engines and their states, whose tensors lie in shared memory.
# Arrays travel, not tensors: a tensor sent from process to process takes a place in /dev/shm.
_shared: dict[int, tuple[Eager, State]] = {}


def _advance_row(engine: int, s: int, start: int, stop: int):
    eager, state = _shared[engine]
    return eager.advance_row(state, s, start, stop).numpy()


def _apply_row(engine: int, function: Function, s: int, sent: list, batches: list, shared: Sequence[str]):
    eager, state = _shared[engine]
    pairs = zip(state.row(s)[:2], sent, strict=True)
    net = [own if other is None else _tensors(other) for own, other in pairs]
    found = eager.apply_row(function, net, [torch.from_numpy(part) for part in batches], shared)
    return [part.numpy() for part in found]


def _tensors(arrays: dict) -> Tensors:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def _pairs(state: State, other: State) -> list[tuple[Tensors, Tensors]]:
    return [(state.params, other.params), (state.buffers, other.buffers)]
