"""S networks of one shape behind one face: one tensor axis, several ways to drive it.

A replica is a configuration and a seed. Those of one object share shapes, data and steps; their learning
rates, initial standard deviations and dropout rates may differ (config.packable).

The state of all replicas is one dictionary of tensors with a leading axis S. What differs is who steps it:

    Replicas   one replica after another, each compiled step on one thread: the drive of a single CPU core
               (stacking is slower there, since a single replica fits the second-level cache)
    Forked     the same, with the replicas shared out among processes, one core each (drives.py)
    Stacked    all replicas in one vmapped step, on CUDA captured as a CUDA graph (drives.py)

Every replica ends as it would alone, whatever the drive and whatever happens to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bnrepro.config import BATCH_NORMS, Config
from bnrepro.data import Dataset, batch_indices
from bnrepro.evaluate import evaluate, evaluate_by_batch, evaluate_train, training_batches
from bnrepro.models import MLP, Model, build
from bnrepro.norm import normalization_layers, population_statistics
from bnrepro.optim import Tensors, learning_rates
from bnrepro.probe import batch_noise, by_unit, distribution, histogram, typical_unit
from bnrepro.step import Step, autograd_and_value, compiled_step, make_step, why_not_compile

Measures = tuple[dict[str, float], dict[str, tuple[list[int], list[float]]]]
PREFETCH = 10  # steps whose images are gathered and made floats at once: 1.9 MB at batch 60, cache-sized
PROBE_BATCHES = 10
POPULATION_BATCHES = 1_000  # at most, of Algorithm 2: an epoch at batch 60
PARTS = ("params", "buffers", "velocity")


class Replicas:
    """State and measurements of S replicas, one process.

    params, buffers, velocity: {name: (S, ...)}; diverged_at (S,) int64, -1 while all losses were finite.
    """

    def __init__(self, runs: list[Config], data: Dataset, device: torch.device) -> None:
        self.runs, self.data, self.device = runs, data.to(device), device
        self.cfg = cfg = runs[0]  # for all that the runs share
        self.cfgs = [run for run in runs for _ in run.seeds]  # of each replica
        self.seeds = [seed for run in runs for seed in run.seeds]
        self.drop = torch.tensor([run.model.dropout for run in self.cfgs], device=device)
        self.step_no = 0
        self.m = cfg.data.batch_size  # examples that share BN's statistics
        models = [
            build(each.model, data.shape, data.classes).reset(seed)
            for each, seed in zip(self.cfgs, self.seeds, strict=True)
        ]
        self.units = [{tap: typical_unit(w) for tap, w in m.probed().items()} for m in models]
        self.params = _stack([dict(m.named_parameters()) for m in models], device)
        self.buffers = _stack([dict(m.named_buffers()) for m in models], device)
        self.velocity = {k: torch.zeros_like(v) for k, v in self.params.items() if cfg.optim.momentum}
        self.diverged_at = torch.full((len(models),), -1)
        alone = replace(cfg.model, sync=False)  # what is measured does not wait for other processes
        self._shell = build(alone, data.shape, data.classes).to(device)  # any replica as a module: `module`
        self.eager_because = why_not_compile(cfg, len(self), device)
        self._step = self._make_step(compiled=self.eager_because is None)
        if self.eager_because is None:
            self._compile_now()

    def __len__(self) -> int:
        return len(self.seeds)

    def replica(self, s: int) -> tuple[Tensors, Tensors, Tensors]:
        """params, buffers, velocity of replica s as views: writing to them writes to the stack."""
        params, buffers, velocity = (
            {k: v[s] for k, v in part.items()} for part in (self.params, self.buffers, self.velocity)
        )
        return params, buffers, velocity

    def module(self, s: int) -> Model:
        """Replica s as a module in evaluation mode: one shared object, overwritten by the next call."""
        params, buffers, _ = self.replica(s)
        self._shell.load_state_dict({**params, **buffers})
        return self._shell.eval()

    def advance(self, stop: int, measure: bool = True) -> list[Measures]:
        """Train every replica up to step `stop`, then measure it (see `measure`)."""
        start, self.step_no = self.step_no, stop
        return [self.advance_one(s, start, stop, measure) for s in range(len(self))]

    def advance_one(self, s: int, start: int, stop: int, measure: bool = True) -> Measures:
        """Train replica s over steps start..stop-1. A diverged replica stays as it is."""
        losses = torch.full((stop - start,), torch.nan)
        (params, buffers, velocity), drop = self.replica(s), self.drop[s]
        prefetch = PREFETCH if self.data.flat else 1
        for begin in range(start, stop, prefetch) if self.diverged_at[s] < 0 else ():
            end = min(begin + prefetch, stop)
            batches = zip(*self._batches(s, begin, end), strict=True)
            chunk = [self._step(params, buffers, velocity, *batch, drop) for batch in batches]
            losses[begin - start : end - start] = torch.stack(chunk)
        return self._report(s, start, stop, losses, measure)

    def measure(self, s: int, last: bool = False, known: dict[str, float] | None = None) -> Measures:
        """What is recorded of replica s at a grid step: loss and accuracy of the split, and the probe.

        `known` of them: both, unless histograms are wanted, then the first.
        """
        wanted, histograms = self.cfg.eval, {}
        values = dict(known or evaluate(self.module(s), self.data))
        if wanted.train:
            values |= evaluate_train(self.module(s), self.data)
        if wanted.probe and (self._histograms or not known):
            for layer, u in self._probed(s).items():
                values |= distribution(layer, u, self.units[s][layer])
                if self._histograms:
                    histograms[f"probe/{layer}/histogram"] = histogram(u)
        if wanted.diagnose:
            values |= self._diagnosed(s)
        if self.cfg.model.norm in BATCH_NORMS and (last or wanted.inference):
            model = self.module(s)
            batches = training_batches(self.data, self.m, self.seeds[s], POPULATION_BATCHES)
            population_statistics(model, batches)
            values |= evaluate(model, self.data, "_population")
            if wanted.inference:
                values |= evaluate_by_batch(model, self.data, self.m)
            if last and wanted.noise:
                assert isinstance(model, MLP)
                (unit,) = self.units[s].values()
                values |= batch_noise(model, self.data, unit, self.seeds[s])
        return values, histograms

    def state_dict(self, run: int = 0) -> dict:
        """All there is to know of one run's replicas, in the order of its seeds."""
        rows = self.rows(run)
        parts: dict = {name: {k: v[rows] for k, v in getattr(self, name).items()} for name in PARTS}
        return parts | {"diverged_at": self.diverged_at[rows], "step_no": self.step_no}

    def load_state_dict(self, state: dict, run: int = 0) -> None:
        """Copy a saved state into this one's tensors, in place: processes may share them."""
        rows = self.rows(run)
        for part in PARTS:
            for name, tensor in getattr(self, part).items():
                tensor[rows] = state[part][name].to(tensor.device)
        self.diverged_at[rows] = state["diverged_at"]
        self.step_no = state["step_no"]

    def rows(self, run: int) -> slice:
        """Where the replicas of run number `run` stand."""
        start = sum(len(each.seeds) for each in self.runs[:run])
        return slice(start, start + len(self.runs[run].seeds))

    def close(self) -> None:
        """Give back what the drive holds: processes, graphs."""

    def _compile_now(self) -> None:
        """One step on copies, so that compiling happens here, once, and can fail without harm."""
        params, buffers, velocity = ({k: v.clone() for k, v in part.items()} for part in self.replica(0))
        x, labels, rate, key = (part[0] for part in self._batches(0, 0, 1))
        try:
            self._step(params, buffers, velocity, x, labels, rate, key, self.drop[0])
        except Exception as error:  # a broken toolchain has many faces; a broken step fails in eager mode too
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.eager_because = f"compiling failed ({reason[0][:100]}): running eager steps"
            self._step = self._make_step(compiled=False)

    def _make_step(self, compiled: bool) -> Step:
        if compiled:
            return compiled_step(self.cfg, self.data)
        return self._uncompiled(autograd_and_value)

    def _uncompiled(self, transform: Callable) -> Step:
        """The step with a grad_and_value of one's choice: see `make_step`."""
        model = build(self.cfg.model, self.data.shape, self.data.classes)
        return make_step(model, self.cfg.optim, transform, self.cfg.train.autocast == "bf16")

    def _batches(self, s: int, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of K = stop - start steps: x (K, m, ...), labels (K, m), rates (K,), keys (K, 2)."""
        index, keys = self._index_of(s, start, stop).to(self.device), self._keys(s, start, stop)
        x = self.data.batches(index, keys)
        return x, self.data.labels[index], self._rates_of(s, start, stop), keys

    def _index_of(self, s: int, start: int, stop: int) -> Tensor:
        m, shuffle = self.cfg.data.batch_size, self.cfg.data.shuffle
        return batch_indices(self.seeds[s], len(self.data.images), m, start, stop, shuffle)

    def _rates_of(self, s: int, start: int, stop: int) -> Tensor:
        cfg = self.cfgs[s]
        return learning_rates(cfg.optim, cfg.data.batch_size, start, stop).to(self.device)

    def _keys(self, s: int, start: int, stop: int) -> Tensor:
        steps = torch.arange(start, stop, device=self.device)
        return torch.stack([torch.full_like(steps, self.seeds[s]), steps], dim=1)

    @property
    def _histograms(self) -> bool:
        return self.cfg.record.wandb != "off" and self.cfg.record.histograms

    def _report(
        self,
        s: int,
        start: int,
        stop: int,
        losses: Tensor,
        measure: bool,
        known: dict[str, float] | None = None,
    ) -> Measures:
        """Note divergence in losses (K,) of steps start..stop-1; the measures of replica s at step `stop`."""
        values: dict[str, float] = {"train/loss": losses.double().mean().item()} if stop > start else {}
        bad = (~losses.isfinite()).nonzero()
        if len(bad) and self.diverged_at[s] < 0:
            self.diverged_at[s] = start + int(bad[0])
            values["diverged_at"] = float(self.diverged_at[s])
        if not measure:
            return values, {}
        measured, histograms = self.measure(s, stop == self.cfg.train.steps, known)
        return values | measured, histograms

    @torch.no_grad()
    def _probed(self, s: int) -> dict[str, Tensor]:
        """Inputs of the watched nonlinearities, (values, units), on the seed's first 10 mini-batches.

        Of feature maps 16 locations an image, evenly spread.

        As in the paper the network is in training mode: each mini-batch is normalized by its own statistics.
        Dropout is off, and what the running statistics become here is thrown away with the module.
        """
        model = self.module(s)
        for layer in normalization_layers(model):
            layer.train()
        batches = training_batches(self.data, self.m, self.seeds[s], PROBE_BATCHES)
        taps = [model(x)[1] for x in batches]
        return {layer: torch.cat([by_unit(tap[layer]) for tap in taps]) for layer in self.units[s]}

    def _diagnosed(self, s: int) -> dict[str, float]:
        """diagnostics.diagnose on the seed's first two mini-batches, at the rate of the step to come."""
        if not all(v[s].isfinite().all() for v in self.params.values()):
            return {}  # a diverged net has no Jacobian
        from bnrepro.diagnostics import diagnose  # few runs need it

        (x, next_x), (labels, next_labels), _, keys = self._batches(s, 0, 2)
        rate = self._rates_of(s, self.step_no, self.step_no + 1).item()
        model = self.module(s)
        assert isinstance(model, MLP)
        return diagnose(model, x, labels, next_x, next_labels, keys[0], rate)


def _stack(states: list[Tensors], device: torch.device) -> Tensors:
    return {k: torch.stack([s[k].detach() for s in states]).to(device) for k in states[0]}
