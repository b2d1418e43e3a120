"""The tensors of S replicas: nets of one shape that train side by side, on one tensor axis."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bnrepro.config import Config
from bnrepro.data import Dataset
from bnrepro.models import build
from bnrepro.training.optim import Tensors

PARTS = ("params", "buffers", "velocity")


class Replica(NamedTuple):
    """One net: a configuration and one of its seeds."""

    cfg: Config
    seed: int


class State:
    """params, buffers, velocity: {name: (S, ...)}; diverged_at (S,) int64, -1 while all losses were finite.

    step: the step at which the replicas stand and were measured; -1 before the first measurement, at step 0.
    replicas: whose row is whose. They share shapes, data and steps; learning rates, initial standard
    deviations and dropout rates may differ (config.address.packable).
    """

    def __init__(self, replicas: list[Replica], data: Dataset) -> None:
        """Initial weights, each replica's own: a function of its seed alone."""
        self.replicas, self.step = replicas, -1
        nets = [build(cfg.model, data.shape, data.classes).reset(seed) for cfg, seed in replicas]
        self.params = _stack([dict(net.named_parameters()) for net in nets], data.device)
        self.buffers = _stack([dict(net.named_buffers()) for net in nets], data.device)
        momentum = replicas[0].cfg.optim.momentum
        self.velocity = {k: torch.zeros_like(v) for k, v in self.params.items()} if momentum else {}
        self.diverged_at = torch.full((len(replicas),), -1)

    def __len__(self) -> int:
        return len(self.replicas)

    def row(self, s: int) -> tuple[Tensors, Tensors, Tensors]:
        """params, buffers, velocity of replica s as views: writing to them writes to the state."""
        params, buffers, velocity = ({k: v[s] for k, v in getattr(self, part).items()} for part in PARTS)
        return params, buffers, velocity

    def sharing(self, params: Tensors | None = None, buffers: Tensors | None = None) -> State:
        """The same replicas with other parameters or buffers, {name: (S, ...)}: what is not given is shared."""
        other = copy.copy(self)
        other.params, other.buffers = params or self.params, buffers or self.buffers
        return other

    def note_divergence(self, losses: Tensor, start: int) -> Tensor:
        """From the losses (S, K) of steps start..start+K-1: which replicas diverged just now, (S,) bool."""
        bad = ~losses.isfinite()
        found = bad.any(1) & (self.diverged_at < 0)
        if found.any():
            self.diverged_at[found] = start + bad[found].int().argmax(1)
        return found

    def saved(self, s: int) -> dict[str, Any]:
        """All there is to know of replica s. Copies: torch.save writes the whole storage behind a view."""
        parts = {part: {k: v[s].cpu().clone() for k, v in getattr(self, part).items()} for part in PARTS}
        return parts | {"diverged_at": int(self.diverged_at[s]), "step": self.step}

    def differs(self, saved: dict[str, Any]) -> str:
        """Which tensors of `saved` are not this net's, by name or shape: "" where it can be restored."""
        found = set()
        for part in PARTS:
            mine = {name: tensor.shape[1:] for name, tensor in getattr(self, part).items()}
            theirs = {name: tensor.shape for name, tensor in saved[part].items()}
            found |= {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}
        return ", ".join(sorted(found))

    def restore(self, s: int, saved: dict[str, Any]) -> None:
        """Copy what `saved` gave into row s, in place: processes may share the tensors. `differs` says if it can."""
        for part in PARTS:
            for name, tensor in getattr(self, part).items():
                tensor[s] = saved[part][name].to(tensor.device)
        self.diverged_at[s] = saved["diverged_at"]
        self.step = saved["step"]


def _stack(nets: list[Tensors], device: torch.device) -> Tensors:
    return {k: torch.stack([net[k].detach() for net in nets]).to(device) for k in nets[0]}
