"""The engine of a GPU: all replicas in one vmapped step, captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from bnrepro import machine
from bnrepro.data import Dataset
from bnrepro.models import build
from bnrepro.training.engines.base import Engine, Function
from bnrepro.training.state import PARTS, State
from bnrepro.training.step import Step, make_step

CHUNK = 500  # steps whose batch indices lie on the device at once


class Cuda(Engine):
    """Gather, forward, backward and update are one graph. `compiled`: TorchInductor makes the kernels in it.

    Without a working compiler torch's own kernels are captured. On a CPU, for tests, there is no graph.
    """

    name = "cuda"

    def __init__(self, state: State, data: Dataset, compiled: bool = True) -> None:
        super().__init__(state.replicas, data)
        model = build(self.cfg.model, data.shape, data.classes)
        autocast = self.cfg.train.autocast == "bf16"
        self._plain: Step = vmap(make_step(model, self.cfg.optim, grad_and_value, autocast), in_dims=0)
        self._step = self._compiled(state) if compiled else self._plain
        self._graph: torch.cuda.CUDAGraph | None = None
        device, s, m = data.device, len(state), self.cfg.data.batch_size
        self._t = torch.zeros(1, dtype=torch.int64, device=device)
        self._index = torch.zeros(CHUNK, s, m, dtype=torch.int64, device=device)
        self._rates = torch.zeros(CHUNK, s, device=device)
        self._keys = torch.zeros(CHUNK, s, 2, dtype=torch.int64, device=device)
        self._losses = torch.zeros(CHUNK, s, device=device)

    def advance(self, state: State, start: int, stop: int) -> Tensor:
        healthy, chunks = state.diverged_at < 0, []
        tensors = [tensor for part in PARTS for tensor in getattr(state, part).values()]
        ill = ~healthy  # they take the steps of the others, and are put back
        before = [tensor[ill].clone() for tensor in tensors] if ill.any() else []
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            self._load(state, begin, end)
            for _ in range(end - begin):
                self._graph.replay() if self._graph else self._one(state)
            # Not fetched yet: the next chunk's indices are drawn while the device is still at this one.
            chunks.append(self._losses[: end - begin].clone())
        for tensor, rows in zip(tensors, before, strict=False):  # `before` may be empty
            tensor[ill] = rows
        losses = torch.cat(chunks).T.cpu() if chunks else torch.zeros(len(state), 0)
        return losses.where(healthy[:, None], torch.nan)

    def apply(
        self, function: Function, state: State, batches: Sequence[Tensor], shared: Sequence[str]
    ) -> list[Tensor]:
        whole = [getattr(self.data, name) for name in shared]
        if not getattr(function, "stacks", True):
            return self._apply_one_by_one(function, state, batches, whole)
        over = [0 if len(part) == len(state) > 1 else None for part in batches]
        each = vmap(function, in_dims=(0, 0, *over, *[None] * len(whole)))
        moved = [
            part.to(self.data.device) if axis == 0 else part[0].to(self.data.device)
            for part, axis in zip(batches, over, strict=True)
        ]
        found = []
        for b in range(batches[0].shape[1]):
            batch = [p[:, b] if axis == 0 else p[b] for p, axis in zip(moved, over, strict=True)]
            found.append(each(state.params, state.buffers, *batch, *whole))
        return [torch.stack(parts, 1).cpu() for parts in zip(*found, strict=True)]

    def _apply_one_by_one(
        self, function: Function, state: State, batches: Sequence[Tensor], whole: Sequence[Any]
    ) -> list[Tensor]:
        """What takes gradients by plain autograd cannot be stacked by vmap."""
        moved, each = [part.to(self.data.device) for part in batches], []
        for s in range(len(state)):
            rows = zip(*(part[s % len(part)] for part in moved), strict=True)
            found = [function(*state.row(s)[:2], *row, *whole) for row in rows]
            each.append([torch.stack(parts) for parts in zip(*found, strict=True)])
        return [torch.stack(parts).cpu() for parts in zip(*each, strict=True)]

    def _load(self, state: State, start: int, stop: int) -> None:
        """Put the batch indices, rates and keys of steps start..stop-1 on the device."""
        each = [self.batches(s, start, stop) for s in range(len(state))]
        kept = (self._index, self._rates, self._keys)
        for place, parts in zip(kept, zip(*each, strict=True), strict=True):
            place[: stop - start] = torch.stack(parts, 1).to(place.device)
        if self.data.device.type == "cuda" and self._graph is None:
            self._capture(state)
        self._t.zero_()

    def _one(self, state: State) -> None:
        """The step numbered by the device's own counter, so that a replayed graph needs no host copy."""
        index, rates, keys = (
            part.index_select(0, self._t)[0] for part in (self._index, self._rates, self._keys)
        )
        x, labels = vmap(self.data.batch)(index, keys), self.data.labels[index]
        parts = (state.params, state.buffers, state.velocity)
        loss = self._step(*parts, x, labels, rates, keys, self.dropout_rates)
        self._losses.index_copy_(0, self._t, loss[None])
        self._t.add_(1)

    def _capture(self, state: State) -> None:
        """Record `_one` as a CUDA graph; the warm-up steps it takes are undone."""
        before = {name: {k: v.clone() for k, v in getattr(state, name).items()} for name in PARTS}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._one(state)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._one(state)
        for name, part in before.items():
            for key, tensor in part.items():
                getattr(state, name)[key].copy_(tensor)

    def _compiled(self, state: State) -> Step:
        """The stacked step through TorchInductor, as a traced graph: torch.compile's front end has no vmap rule
        for an autograd.Function, and would check at every call what cannot change here."""
        from torch._inductor import compile as inductor
        from torch.fx.experimental.proxy_tensor import make_fx

        s, m, device = len(state), self.cfg.data.batch_size, self.data.device
        keys = torch.zeros(s, 2, dtype=torch.int64, device=device)
        index = torch.zeros(s, m, dtype=torch.int64, device=device)
        batch = (
            vmap(self.data.batch)(index, keys),
            self.data.labels[index],
            torch.zeros(s, device=device),
            keys,
        )
        parts = [getattr(state, name) for name in PARTS]
        leaves = [*(tensor for part in parts for tensor in part.values()), *batch, self.dropout_rates]

        def flat(*leaves: Any) -> list[Tensor]:
            rest = iter(leaves)
            named: list[Any] = [{name: next(rest) for name in part} for part in parts]
            return [self._plain(*named, *rest)]

        try:
            made: Any = inductor(make_fx(flat, tracing_mode="fake")(*leaves), leaves)
        except Exception as error:  # a broken toolchain has many faces; a broken step fails uncompiled too
            if stop := machine.stop_asked():
                raise stop from error
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.note = f"compiling failed ({reason[0][:100]}): torch's own kernels"
            return self._plain

        def step(params, buffers, velocity, *batch):
            return made(*params.values(), *buffers.values(), *velocity.values(), *batch)[0]

        return step
