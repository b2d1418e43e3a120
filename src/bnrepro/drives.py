"""The drives that need more than one core: processes on a CPU, one vmapped CUDA graph on a GPU."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from bnrepro.address import packable
from bnrepro.config import Config, ConfigError
from bnrepro.data import Dataset
from bnrepro.evaluate import evaluate_stacked, training_rows
from bnrepro.norm import normalization_layers
from bnrepro.optim import Tensors
from bnrepro.parallel import DataParallel, processes
from bnrepro.probe import by_unit, distributions
from bnrepro.replicas import PARTS, PROBE_BATCHES, Measures, Replicas
from bnrepro.step import Step, traced

GRAPH_CHUNK = 500  # steps whose batch indices lie on the device at once


def build_replicas(runs: Config | list[Config], data: Dataset) -> Replicas:
    """The drive that cfg.train asks for; "auto" takes what measures fastest on this machine.

    Several runs train together where `config.packable` is the same for all of them.
    """
    runs = runs if isinstance(runs, list) else [runs]
    if len({packable(run) for run in runs}) != 1:
        raise ValueError("runs of different shapes or lengths do not train together")
    cfg, device = runs[0], device_of(runs[0])
    if processes() > 1 or cfg.train.processes > 1:
        return DataParallel(runs, data, device)  # refuses processes that torchrun did not start
    convolutions = cfg.model.name == "inception"  # stacked they are grouped ones: slower than one by one
    by_vmap = device.type == "cuda" and not convolutions
    if cfg.train.drive == "stacked" or (cfg.train.drive == "auto" and by_vmap):
        return Stacked(runs, data, device)
    workers = workers_for(cfg, sum(len(run.seeds) for run in runs)) if device.type == "cpu" else 1
    if device.type == "cpu":  # two threads on one small step are slower than one
        torch.set_num_threads(len(os.sched_getaffinity(0)) if convolutions and workers == 1 else 1)
    return Forked(runs, data, device, workers) if workers > 1 else Replicas(runs, data, device)


def device_of(cfg: Config) -> torch.device:
    """Where cfg trains. Raises ConfigError if it asks for a GPU that is not there."""
    cuda = torch.cuda.is_available()
    if cfg.train.device == "cuda" and not cuda:
        raise ConfigError("train.device=cuda: torch finds no CUDA device; use train.device=cpu")
    if not cuda or cfg.train.device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def name_of(device: torch.device) -> str:
    """The card's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def workers_for(cfg: Config, replicas: int) -> int:
    """Processes to use: cfg.train.workers, or one a core; one inside a process that is itself one of many."""
    if sys.platform != "linux":
        return 1  # elsewhere fork is missing or unsafe
    alone = multiprocessing.parent_process() is None
    cores = len(os.sched_getaffinity(0)) if alone else 1
    return min(cfg.train.workers or cores, replicas)


_replicas: Replicas | None = None  # in a forked process: its view of the shared replicas


def _enter(replicas: Replicas) -> None:
    global _replicas
    _replicas = replicas
    sys.stdout, sys.stderr = (
        sys.__stdout__,
        sys.__stderr__,
    )  # a progress bar's stand-ins may be locked for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan outlives a killed parent
    torch.set_num_threads(1)


def _advance_one(s: int, start: int, stop: int, measure: bool) -> Measures:
    assert _replicas is not None
    return _replicas.advance_one(s, start, stop, measure)


class Forked(Replicas):
    """Replicas whose state lies in shared memory and whose steps run in forked processes, one core each.

    The step is compiled before the fork, so the processes inherit it instead of compiling it again.
    """

    def __init__(self, runs: list[Config], data: Dataset, device: torch.device, workers: int) -> None:
        super().__init__(runs, data, device)
        for part in (self.params, self.buffers, self.velocity, {"diverged_at": self.diverged_at}):
            for tensor in part.values():
                tensor.share_memory_()
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _enter, (self,))
        self._pool.submit(os.getpid).result()  # all processes are forked here, before a recorder has threads

    def advance(self, stop: int, measure: bool = True) -> list[Measures]:
        start, self.step_no = self.step_no, stop
        jobs = [self._pool.submit(_advance_one, s, start, stop, measure) for s in range(len(self))]
        return [job.result() for job in jobs]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Stacked(Replicas):
    """All replicas in one vmapped step; on CUDA gather, forward, backward and update are one graph."""

    def __init__(self, runs: list[Config], data: Dataset, device: torch.device) -> None:
        super().__init__(runs, data, device)
        self._graph: torch.cuda.CUDAGraph | None = None
        s, m = len(self), self.cfg.data.batch_size
        self._t = torch.zeros(1, dtype=torch.int64, device=device)
        self._index = torch.zeros(GRAPH_CHUNK, s, m, dtype=torch.int64, device=device)
        self._rates = torch.zeros(GRAPH_CHUNK, s, device=device)
        self._key = torch.zeros(GRAPH_CHUNK, s, 2, dtype=torch.int64, device=device)
        self._losses = torch.zeros(GRAPH_CHUNK, s, device=device)

    def advance(self, stop: int, measure: bool = True) -> list[Measures]:
        start, self.step_no = self.step_no, stop
        chunks = []
        for begin in range(start, stop, GRAPH_CHUNK):
            end = min(begin + GRAPH_CHUNK, stop)
            self._load(begin, end)
            for _ in range(end - begin):
                self._graph.replay() if self._graph else self._one()
            # Not fetched yet: the next chunk's indices are drawn while the device is still at this one.
            chunks.append(self._losses[: end - begin].clone())
        losses = torch.cat(chunks).cpu() if chunks else self._losses[:0].cpu()
        known = self._measured_together() if measure else [{}] * len(self)
        return [self._report(s, start, stop, losses[:, s], measure, known[s]) for s in range(len(self))]

    def _measured_together(self) -> list[dict[str, float]]:
        """Accuracy and, without histograms, the probe of all replicas in one go: see Replicas.measure."""
        known = evaluate_stacked(self._shell, self.params, self.buffers, self.data)
        if self.cfg.eval.probe and not self._histograms:
            for layer, u in self._probed_together().items():
                units = [each[layer] for each in self.units]
                known = [a | b for a, b in zip(known, distributions(layer, u, units), strict=True)]
        return known

    @torch.no_grad()
    def _probed_together(self) -> dict[str, Tensor]:
        """Replicas._probed of all: {layer: (S, values, units)}."""
        model, watched = self._shell.eval(), self.units[0]
        for layer in normalization_layers(model):
            layer.train()

        def taps(params: Tensors, buffers: Tensors, x: Tensor) -> Tensors:
            found = functional_call(model, (params, buffers), (x,))[1]
            return {layer: by_unit(found[layer]) for layer in watched}

        buffers = {k: v.clone() for k, v in self.buffers.items()}  # BN moves its running statistics
        found = []
        for rows in self._probe_index:  # (S, m)
            x = self.data.inputs(self.data.images[rows.flatten()]).unflatten(0, rows.shape)
            found.append(vmap(taps)(self.params, buffers, x))
        return {layer: torch.cat([each[layer] for each in found], dim=1) for layer in watched}

    @functools.cached_property
    def _probe_index(self) -> Tensor:
        """evaluate.training_rows of every seed, (batches, S, m)."""
        each = [training_rows(self.data, self.m, seed, PROBE_BATCHES) for seed in self.seeds]
        return torch.stack(each, dim=1).to(self.device)

    def _compile_now(self) -> None:
        """Not here: the first step traces and compiles."""

    def _make_step(self, compiled: bool) -> Step:
        step = vmap(self._uncompiled(grad_and_value), in_dims=0)
        return traced(step) if compiled else step

    def _load(self, start: int, stop: int) -> None:
        """Put the batch indices, rates and dropout keys of steps start..stop-1 on the device."""
        for kept, of in (
            (self._index, self._index_of),
            (self._key, self._keys),
            (self._rates, self._rates_of),
        ):
            each = [of(s, start, stop) for s in range(len(self))]
            kept[: stop - start] = torch.stack(each, dim=1).to(self.device)
        if self.device.type == "cuda" and self._graph is None:
            self._capture()
        self._t.zero_()

    def _one(self) -> None:
        """The step numbered by the device's own counter, so that a replayed graph needs no host copy."""
        index = self._index.index_select(0, self._t)[0]
        rate, keys = self._rates.index_select(0, self._t)[0], self._key.index_select(0, self._t)[0]
        x, labels = vmap(self.data.batch)(index, keys), self.data.labels[index]
        loss = self._step(self.params, self.buffers, self.velocity, x, labels, rate, keys, self.drop)
        self._losses.index_copy_(0, self._t, loss[None])
        self._t.add_(1)

    def _capture(self) -> None:
        """Record `_one` as a CUDA graph; the warm-up steps it takes are undone."""
        before = {name: {k: v.clone() for k, v in getattr(self, name).items()} for name in PARTS}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._one()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._one()
        for name, part in before.items():
            for key, tensor in part.items():
                getattr(self, name)[key].copy_(tensor)
