"""The engine of flat nets on a CPU: the same torch step, traced and run by XLA, many steps at a time.

A step is traced once (trace.py) and said again in jax.numpy (aten.py); XLA compiles a loop over steps in which
batches are gathered from uint8 images, so that Python is asked once for some hundred steps. Replicas are shared
out among threads, one a core: each is the same program with its own arguments, so that a replica is the same
alone, among others, and however its steps are cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bnrepro.config.address import shared_model
from bnrepro.data import Dataset
from bnrepro.models import build
from bnrepro.training.engines.base import Engine, Function
from bnrepro.training.engines.trace import Program, traced
from bnrepro.training.state import State
from bnrepro.training.step import make_step

if TYPE_CHECKING:
    import jax

CHUNK = 500  # steps whose indices are given at once; a loop of fewer runs the same program


class Xla(Engine):
    """See the module. Raises aten.Unsupported, naming the operation, for a step that has no counterpart."""

    name = "xla"
    threads = 1  # a program: --xla_cpu_multi_thread_eigen=false

    def __init__(self, state: State, data: Dataset, workers: int = 1) -> None:
        super().__init__(state.replicas, data)
        from bnrepro.training.engines import aten  # jax takes a second to import: only who uses it waits

        self._aten = aten
        program = _step_program(state, data)
        self._steps = _compiled_steps(aten, program)
        self._threads = ThreadPoolExecutor(min(workers, len(state)), "xla")
        self._applied: dict[Any, Callable] = {}
        self._shared = functools.cache(lambda name: aten.to_jax(getattr(data, name)))
        self._advance_row(state, 0, 0, 0)  # no step: compiled here, once, and not by two threads at a time

    def advance(self, state: State, start: int, stop: int) -> Tensor:
        losses = self._threads.map(lambda s: self._advance_row(state, s, start, stop), range(len(state)))
        return torch.stack(list(losses))

    def _advance_row(self, state: State, s: int, start: int, stop: int) -> Tensor:
        if state.diverged_at[s] >= 0:
            return torch.full((stop - start,), torch.nan)
        row = [tensor for part in state.row(s) for tensor in part.values()]
        arrays, losses = [self._aten.to_jax(tensor) for tensor in row], []
        for begin in range(start, max(stop, start + 1), CHUNK):
            end = min(begin + CHUNK, stop)
            index, rates, keys = (_padded(part) for part in self.batches(s, begin, max(end, begin + 1)))
            given = [self._aten.to_jax(part) for part in (index.int(), rates, keys, self.dropout_rates[s])]
            images, labels = self._shared("images"), self._shared("labels")
            chunk, arrays = self._steps(end - begin, images, labels, self.data.scale, *given, arrays)
            losses.append(self._aten.to_torch(chunk)[: end - begin])
        for tensor, array in zip(row, arrays, strict=True):
            tensor.copy_(self._aten.to_torch(array))
        return torch.cat(losses)

    def apply(
        self, function: Function, state: State, batches: Sequence[Tensor], shared: Sequence[str]
    ) -> list[Tensor]:
        whole, known = [getattr(self.data, name) for name in shared], len(self._applied)
        compiled = self._compiled(function, state, [part[0, 0] for part in batches], whole)
        given = [self._shared(name) for name in shared]

        def row(s: int) -> list[Tensor]:
            params, buffers, _ = state.row(s)
            tensors = [*params.values(), *buffers.values(), *(part[s % len(part)] for part in batches)]
            arrays = [self._aten.to_jax(tensor) for tensor in tensors]
            nets = len(tensors) - len(batches)
            return [self._aten.to_torch(each) for each in compiled(arrays[:nets], arrays[nets:], given)]

        each = [row(0)] if len(self._applied) > known else []  # compiled here, not by two threads at a time
        each += self._threads.map(row, range(len(each), len(state)))
        return [torch.stack(parts) for parts in zip(*each, strict=True)]

    def _compiled(
        self, function: Function, state: State, batch: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> Callable:
        key = (repr(function), *(tuple(part.shape) for part in batch))
        if key not in self._applied:
            params, buffers, _ = state.row(0)
            names = [*params], [*buffers]

            def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
                rest = iter(tensors)
                parts = [{name: next(rest) for name in each} for each in names]
                return function(*parts, *rest)

            program = traced(flat, [*params.values(), *buffers.values(), *batch, *shared])
            self._applied[key] = _compiled_function(self._aten, program)
        return self._applied[key]

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def _padded(part: Tensor) -> Tensor:
    """CHUNK rows, the last of them repeated: arrays of one shape need one compilation."""
    lacking = CHUNK - len(part)
    return torch.cat([part, part[-1:].expand(lacking, *part.shape[1:])]) if lacking else part


def _step_program(state: State, data: Dataset) -> Program:
    """(params, buffers, velocity, x, labels, rate, key, dropout_rate) -> (loss, params, buffers, velocity)."""
    cfg = state.replicas[0].cfg
    model = build(shared_model(cfg.model), data.shape, data.classes)
    step = make_step(model, cfg.optim)
    parts = state.row(0)
    names = [[*part] for part in parts]

    def pure(*tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        copies: list[Any] = [{name: next(rest).clone() for name in each} for each in names]
        loss = step(*copies, *rest)
        return loss, *(tensor for part in copies for tensor in part.values())

    m = cfg.data.batch_size
    key, rate = torch.tensor([0, 0]), torch.tensor(0.5)
    batch = (data.inputs(data.images[:m]), data.labels[:m], rate, key, rate.clone())
    return traced(pure, [*(tensor for part in parts for tensor in part.values()), *batch])


_cache: dict[tuple[str, str], Callable] = {}  # equal programs share what was compiled for them


def _compiled_steps(aten: Any, program: Program) -> Callable:
    """(count, images, labels, scale, index (K, m), rates (K,), keys (K, 2), dropout_rate, arrays) -> losses (K,),
    arrays, of which the first `count` steps are taken."""
    if (key := ("steps", program.fingerprint())) in _cache:
        return _cache[key]
    import jax
    import jax.numpy as jnp

    step = aten.as_jax(program)

    def steps(count, images, labels, scale, index, rates, keys, dropout_rate, arrays):
        def body(k: jax.Array, carried: tuple) -> tuple:
            losses, arrays = carried
            x = images[index[k]].astype(jnp.float32) * jnp.float32(scale)
            loss, *arrays = step(*arrays, x, labels[index[k]], rates[k], keys[k], dropout_rate)
            return losses.at[k].set(loss), arrays

        return jax.lax.fori_loop(0, count, body, (jnp.full(len(index), jnp.nan, jnp.float32), arrays))

    return _cache.setdefault(key, jax.jit(steps))


def _compiled_function(aten: Any, program: Program) -> Callable:
    """(net, batches with an axis B, shared) -> the function's tensors with an axis B."""
    if (key := ("function", program.fingerprint())) in _cache:
        return _cache[key]
    import jax

    function = aten.as_jax(program)

    def applied(net: list, batches: list, shared: list) -> list:
        return jax.lax.map(lambda batch: function(*net, *batch, *shared), batches)

    return _cache.setdefault(key, jax.jit(applied))
