"""Data-parallel training: `torchrun` processes that share each mini-batch and average their gradients.

Every process keeps the parameters and takes batch_size / processes examples of each step. Batch Normalization
takes its statistics over these, as on the paper's cluster, or over all of them with model.sync=true. Process
0 is the main one: it alone evaluates, records and saves, and tells the others how far to train.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bnrepro import machine
from bnrepro.config import Config, ConfigError
from bnrepro.data import Dataset
from bnrepro.training.engines.eager import Eager
from bnrepro.training.optim import Tensors
from bnrepro.training.state import PARTS, Replica, State
from bnrepro.training.step import autograd_and_value

LEAVE_TIMEOUT = timedelta(seconds=60)  # for processes that end together
ANSWER_TIMEOUT = timedelta(minutes=10)  # of the others in a training step; then the main process ends
FOLLOW_TIMEOUT = timedelta(days=7)  # of the main process, which evaluates and saves while the others wait
OWN_NOISE = 1_000_003  # between the seeds of two processes' dropout and augmentation


def world_size() -> int:
    """How many processes torchrun started; 1 without it. Raises ConfigError for what torchrun would not set."""
    given = os.environ.get("WORLD_SIZE", "1")
    if not (given.isdecimal() and int(given) >= 1):
        raise ConfigError(f"WORLD_SIZE={given}: a number of processes; torchrun sets it, else leave it unset")
    if int(given) > 1 and (
        absent := [k for k in ("RANK", "MASTER_ADDR", "MASTER_PORT") if k not in os.environ]
    ):
        raise ConfigError(f"WORLD_SIZE={given} without {', '.join(absent)}: start with torchrun, or unset it")
    return int(given)


def is_main() -> bool:
    """Whether this process records: the first of torchrun's, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def init_process_group(device: torch.device) -> None:
    """Enter the group of torchrun's processes, once. They end with torchrun, also where it is killed."""
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ:
            machine.end_with_parent(signal.SIGKILL)  # it may wait for the others where no handler runs
        if device.type == "cuda":  # NCCL exchanges objects through the current one: each process its own
            torch.cuda.set_device(device)
        timeout = ANSWER_TIMEOUT if is_main() else FOLLOW_TIMEOUT
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)


def leave_process_group(together: bool) -> bool:
    """Leave the group, with `together` when the others are done as well; whether there was one.

    A process that ends while another still listens to it makes gloo abort that one, with all its work done.
    """
    if not dist.is_initialized():
        return False
    with suppress(RuntimeError):  # the others are gone: there is nobody to wait for
        if together and dist.get_backend() == "gloo":
            dist.monitored_barrier(timeout=LEAVE_TIMEOUT)
        dist.destroy_process_group()
    return True


@contextmanager
def _answering() -> Iterator[None]:
    """A process that has ended, or hangs, is said in words. Raises WorkerLost."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        minutes = f"{ANSWER_TIMEOUT.total_seconds() / 60:g} minutes"
        words = f"a process of this run ended, or did not answer for {minutes}; the same command resumes"
        raise machine.WorkerLost(words) from error


def averaged(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensors, Tensor]]:
    """autograd_and_value with gradients and loss averaged over the processes."""
    alone = autograd_and_value(loss)

    def gradient(params: Tensors, *rest: object) -> tuple[Tensors, Tensor]:
        grads, value = alone(params, *rest)
        flat = torch.cat([*(g.flatten() for g in grads.values()), value.view(1)])
        dist.all_reduce(flat)
        parts = flat.div_(dist.get_world_size()).split([*(g.numel() for g in grads.values()), 1])
        mean = {k: part.view_as(g) for (k, g), part in zip(grads.items(), parts[:-1], strict=True)}
        return mean, parts[-1][0]

    return gradient


def check_processes(cfg: Config) -> None:
    """Raises ConfigError where a run names other processes than torchrun started."""
    if cfg.train.processes != (world := world_size()):
        given = f"train.processes={cfg.train.processes}"
        raise ConfigError(f"{given}, but torchrun started {world}: leave the setting to it")


class DataParallel(Eager):
    """An engine of which every process of a torch.distributed group holds a copy: see the module.

    In the main process used like any other; in the others only `follow`, which returns when the main one
    closes its engine.
    """

    name = "data_parallel"

    def __init__(self, state: State, data: Dataset) -> None:
        cfg = state.replicas[0].cfg
        world = cfg.train.processes
        self.rank, self.share = dist.get_rank(), cfg.data.batch_size // world
        self._alike = False  # whether the others have the main process's state
        super().__init__(state, data, transform=averaged)
        self.note = f"{world} processes share each mini-batch: eager steps"

    def advance(self, state: State, start: int, stop: int) -> Tensor:
        self._tell(start, stop)
        return self._together(state, start, stop)

    def follow(self, state: State) -> None:
        """Train as the main process says, until it closes its engine."""
        while (told := self._tell(0, 0))[1] >= 0:
            losses = self._together(state, *told)
            state.note_divergence(losses, told[0])

    def close(self) -> None:
        if self.rank == 0:
            with suppress(machine.WorkerLost):  # there is nobody to dismiss
                self._tell(-1, -1)
        super().close()

    def batches(self, s: int, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        index, rates, keys = super().batches(s, start, stop)
        keys[:, 0] += OWN_NOISE * self.rank
        return index[:, self.rank * self.share : (self.rank + 1) * self.share], rates, keys

    def _together(self, state: State, start: int, stop: int) -> Tensor:
        with _answering():
            if not self._alike:
                self._share_state(state)
            return super().advance(state, start, stop)

    def _tell(self, start: int, stop: int) -> tuple[int, int]:
        """The main process's numbers, in every process."""
        told = torch.tensor([start, stop], device=self.data.device)
        with _answering():
            dist.broadcast(told, src=0)
        return int(told[0]), int(told[1])

    def _share_state(self, state: State) -> None:
        for part in PARTS:
            for tensor in getattr(state, part).values():
                dist.broadcast(tensor, src=0)
        diverged = state.diverged_at.to(self.data.device)
        dist.broadcast(diverged, src=0)
        state.diverged_at, self._alike = diverged.cpu(), True


def share_plan(plan: list[tuple[int, list[int]]] | None) -> None:
    """By the main process: what is trained next, (which configuration, seeds); None: nothing more."""
    at_the_end = (
        suppress(machine.WorkerLost) if plan is None else nullcontext()
    )  # nobody may be left to hear it
    with at_the_end, _answering():
        dist.broadcast_object_list([plan], src=0)


def follow_plans(cfgs: list[Config], data: Dataset, device: torch.device) -> None:
    """By the others: train what the main process trains, until it has nothing more."""
    while True:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, src=0)
        if told[0] is None:
            return
        state = State([Replica(cfgs[i], seed) for i, seeds in told[0] for seed in seeds], data.to(device))
        engine = DataParallel(state, data.to(device))
        engine.follow(state)
        engine.close()
