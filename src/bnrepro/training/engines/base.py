"""What every engine is: something that steps S replicas, and applies a function to each of them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bnrepro.config import Config, ConfigError
from bnrepro.data import Dataset, batch_indices
from bnrepro.rng import step_keys
from bnrepro.training.optim import learning_rates
from bnrepro.training.state import Replica, State

# A pure function of one replica, such as a measurement: (params, buffers, *batches, *shared) -> tensors. It
# changes none of its arguments, and can be pickled.
Function = Callable[..., tuple[Tensor, ...]]


class Engine(ABC):
    """Steps replicas, and nothing more: what is measured, recorded and saved is not its business.

    It is a function of the run's settings and the machine, never of how many runs train beside it. Every
    replica ends as it would alone, whatever happens to the others.
    """

    name: str
    note: str = ""  # one line worth saying when training starts
    # That one step takes on a CPU: with another number sums end in other last bits.
    threads: int | None = None

    def __init__(self, replicas: list[Replica], data: Dataset) -> None:
        self.replicas, self.data, self.cfg = replicas, data, replicas[0].cfg
        self.dropout_rates = torch.tensor([r.cfg.model.dropout for r in replicas], device=data.device)

    @abstractmethod
    def advance(self, state: State, start: int, stop: int) -> Tensor:
        """Train over steps start..stop-1; the losses, (S, stop - start) float32 on the CPU.

        A replica that has diverged before stays as it is: its losses are NaN.
        """

    @abstractmethod
    def apply(
        self, function: Function, state: State, batches: Sequence[Tensor], shared: Sequence[str]
    ) -> list[Tensor]:
        """`function` of every replica and batch: its tensors with axes (S, B) before their own, on the CPU.

        batches: tensors (S, B, ...), or (1, B, ...) where all replicas get the same. shared: names of tensors
        of the data set, which are given whole.
        """

    def close(self) -> None:  # noqa: B027, some hold nothing
        """Give back what the engine holds: processes, threads, graphs."""

    def batches(self, s: int, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Replica s over K = stop - start steps: index (K, m) int64, rates (K,) float32, keys (K, 2) int64."""
        cfg, seed = self.replicas[s]
        m, examples = cfg.data.batch_size, self.data.examples
        index = self.data.seen(seed, batch_indices(seed, examples, m, start, stop, cfg.data.shuffle))
        return index, learning_rates(cfg, start, stop), step_keys(seed, start, stop)


def device_of(cfg: Config) -> torch.device:
    """Where cfg trains. Raises ConfigError if it asks for a GPU that is not there."""
    cuda = torch.cuda.is_available()
    if "cuda" in (cfg.train.device, cfg.train.engine) and not cuda:
        asked = "device" if cfg.train.device == "cuda" else "engine"
        raise ConfigError(f"train.{asked}=cuda: torch finds no CUDA device; use train.device=cpu")
    if not cuda or cfg.train.device == "cpu" or cfg.train.engine == "xla":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def name_of(device: torch.device) -> str:
    """The card's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
