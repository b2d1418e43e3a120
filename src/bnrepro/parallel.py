"""Data-parallel training: `torchrun` processes that share each mini-batch and average their gradients.

Every process keeps the parameters and takes batch_size / processes examples of each step. Batch Normalization
takes its statistics over these, as on the paper's cluster, or over all of them with model.sync=true. Process
0 leads: it alone evaluates, records and saves, and tells the others how far to train.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from bnrepro.config import Config, ConfigError
from bnrepro.data import Dataset
from bnrepro.optim import Tensors
from bnrepro.replicas import PARTS, Measures, Replicas
from bnrepro.step import Step, autograd_and_value

OWN_NOISE = 1_000_003  # between the seeds of two processes' dropout and augmentation


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process records: the first of torchrun's, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def join(device: torch.device) -> None:
    """Enter the group of torchrun's processes, once."""
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def dismiss(device: torch.device) -> None:
    """By process 0, where there is nothing to train: the others stop following."""
    dist.broadcast(torch.tensor([-1, -1], device=device), src=0)


def averaged(transform: Callable) -> Callable:
    """`transform`, a grad_and_value, with gradients and loss averaged over the processes."""

    def of(loss: Callable) -> Callable:
        alone = transform(loss)

        def gradient(params: Tensors, *rest: object) -> tuple[Tensors, Tensor]:
            grads, value = alone(params, *rest)
            flat = torch.cat([*(g.flatten() for g in grads.values()), value.view(1)])
            dist.all_reduce(flat)
            parts = flat.div_(dist.get_world_size()).split([*(g.numel() for g in grads.values()), 1])
            mean = {k: part.view_as(g) for (k, g), part in zip(grads.items(), parts[:-1], strict=True)}
            return mean, parts[-1][0]

        return gradient

    return of


class DataParallel(Replicas):
    """Replicas of which every process of a torch.distributed group holds a copy: see the module.

    In process 0 used like any Replicas; in the others only `follow`, which returns when process 0 closes its.
    """

    def __init__(self, runs: list[Config], data: Dataset, device: torch.device) -> None:
        cfg, world = runs[0], dist.get_world_size() if dist.is_initialized() else 1
        if cfg.train.processes != world:
            given = f"train.processes={cfg.train.processes}"
            raise ConfigError(f"{given}, but torchrun started {world}: leave the setting to it")
        self.rank, self.share = dist.get_rank(), cfg.data.batch_size // world
        self._alike = False  # whether the others have process 0's state
        super().__init__(runs, data, device)
        self.m = cfg.data.batch_size if cfg.model.sync else self.share
        self.eager_because = f"{world} processes share each mini-batch: eager steps"

    def advance(self, stop: int, measure: bool = True) -> list[Measures]:
        self._tell(self.step_no, stop)
        if not self._alike:
            self._share_state()
        return super().advance(stop, measure)

    def follow(self) -> None:
        """Train as process 0 says, until it closes its replicas."""
        while (told := self._tell(0, 0))[1] >= 0:
            self.step_no = told[0]
            if not self._alike:
                self._share_state()
            super().advance(told[1], measure=False)

    def close(self) -> None:
        if self.rank == 0:
            dismiss(self.device)

    def _tell(self, start: int, stop: int) -> tuple[int, int]:
        """Process 0's numbers, in every process."""
        told = torch.tensor([start, stop], device=self.device)
        dist.broadcast(told, src=0)
        return int(told[0]), int(told[1])

    def _share_state(self) -> None:
        self.diverged_at = self.diverged_at.to(self.device)
        for part in (*(getattr(self, name) for name in PARTS), {"diverged_at": self.diverged_at}):
            for tensor in part.values():
                dist.broadcast(tensor, src=0)
        self.diverged_at, self._alike = self.diverged_at.cpu(), True

    def _make_step(self, compiled: bool) -> Step:
        return self._uncompiled(averaged(autograd_and_value))

    def _compile_now(self) -> None:
        """Not here: steps with communication run as they are."""

    def _index_of(self, s: int, start: int, stop: int) -> Tensor:
        whole = super()._index_of(s, start, stop)
        return whole[:, self.rank * self.share : (self.rank + 1) * self.share]

    def _keys(self, s: int, start: int, stop: int) -> Tensor:
        keys = super()._keys(s, start, stop)
        keys[:, 0] += OWN_NOISE * self.rank
        return keys
