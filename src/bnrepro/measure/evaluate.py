"""Loss and accuracy over a split, with the inference statistics one asks for; Algorithm 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.config import DataConfig
from bnrepro.config.address import shared_model
from bnrepro.data import Dataset, batch_indices
from bnrepro.data.dataset import Images, varied
from bnrepro.measure.net import Net, net_of
from bnrepro.norm import normalization_layers
from bnrepro.rng import generator, step_keys
from bnrepro.training.engines import Engine
from bnrepro.training.optim import Tensors
from bnrepro.training.state import State

TRAIN_EXAMPLES = 10_000  # at most: as many as the test set has
AT_ONCE = 100  # mini-batches of Algorithm 2 whose statistics are held at once
Values = list[dict[str, float]]  # of each replica


@dataclass
class Score(Net):
    """(params, buffers, rows (n,), images, labels) -> sum of losses, correct, and correct among five; float64."""

    def __call__(
        self, params: Tensors, buffers: Tensors, rows: Tensor, images: Images, labels: Tensor
    ) -> tuple[Tensor, ...]:
        logits, target = self.forward(params, buffers, self.inputs(images, rows))[0], labels[rows]
        loss = cross_entropy(logits, target, reduction="none").sum(dtype=torch.float64)
        right = (logits.argmax(1) == target).sum().double()
        if len(self.shape) == 1:
            return loss, right
        likely = logits.topk(min(5, self.classes)).indices
        return loss, right, (likely == target[:, None]).sum().double()


@dataclass
class BatchStatistics(Net):
    """(params, buffers, rows (m,), images) -> each BN layer's mean (C,), then variance (C,) with m/(m-1).

    With `augment` (params, buffers, rows, key (2,), images): the images are varied as at that seed and step.
    """

    augment: DataConfig | None = None

    def __call__(self, params: Tensors, buffers: Tensors, rows: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        images: Images = rest[-1]
        copies, module = {name: buffer.clone() for name, buffer in buffers.items()}, self.module()
        for name in running(copies):  # one that has overflowed would stay in a batch's, as 0 * inf
            old = copies[name]
            copies[name] = torch.where(old.abs() < math.inf, old, torch.zeros_like(old))
        layers = normalization_layers(module)
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = 1.0  # the running statistics become this batch's
        try:
            if self.augment is None:
                x = self.inputs(images, rows)
            else:
                x = varied(images[rows].to(rows.device), rest[0], self.augment, self.scale, self.offset)
            functional_call(module, (params, copies), (x,))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
        return tuple(copies[name] for name in running(copies))


def running(buffers: Tensors) -> list[str]:
    """Names of the running statistics, layer by layer."""
    return [name for name in buffers if name.endswith(("running_mean", "running_var"))]


def evaluate(engine: Engine, state: State, data: Dataset, suffix: str = "") -> Values:
    """{"<split>/loss<suffix>", "<split>/accuracy<suffix>"} of every replica, in evaluation mode; loss in nats.

    Of colour images also "<split>/top5<suffix>", the share whose class is among the five most likely.
    """
    rows = torch.arange(len(data.eval_labels))
    return _scored(engine, state, data, rows, ("eval_images", "eval_labels"), data.split, suffix)


def evaluate_train(engine: Engine, state: State, data: Dataset) -> Values:
    """{"train/loss_eval", "train/accuracy_eval"}: of 10,000 training images at most, in evaluation mode."""
    some = (torch.arange(data.examples) if data.flat else _mixed(data.examples))[:TRAIN_EXAMPLES]
    rows = torch.stack([data.seen(replica.seed, some) for replica in state.replicas]) if data.kept else some
    return _scored(engine, state, data, rows, ("images", "labels"), "train", "_eval")


def evaluate_test(engine: Engine, state: State, data: Dataset, suffix: str = "") -> Values:
    """{"test/loss<suffix>", "test/accuracy<suffix>"}, where `evaluate` measures a validation split; as there."""
    assert data.test_labels is not None, "without data.holdout the split is the test set"
    rows = torch.arange(len(data.test_labels))
    return _scored(engine, state, data, rows, ("test_images", "test_labels"), "test", suffix)


def evaluate_by_batch(engine: Engine, state: State, data: Dataset, batch_size: int) -> Values:
    """{"<split>/loss_batch", ...}: BN by the statistics of test batches of `batch_size`, in a fixed random order.

    What one gets who forgets to switch to evaluation mode. The file's own order would make batches alike: MNIST's
    first 5,000 test images are of cleaner hands than the others, and colour images are listed class by class. The
    last, incomplete batch is left out.
    """
    n = len(data.eval_labels)
    rows = _mixed(n)[: n // batch_size * batch_size]
    given = (rows, ("eval_images", "eval_labels"), data.split, "_batch", batch_size)
    return _scored(engine, state, data, *given)


def with_population_statistics(
    engine: Engine, state: State, data: Dataset, batch_size: int, plain: bool = False
) -> State:
    """Algorithm 2: the same nets, normalizing by the averages over each seed's first epoch of mini-batches.

    At most eval.population mini-batches of batch_size; each layer on inputs normalized by their own mini-batch, as in
    training, and images varied as in training, unless `plain`. Shares parameters with `state`; its buffers are new.
    """
    net = net_of(data, shared_model(engine.cfg.model), "batch")
    function = BatchStatistics(**net, augment=None if plain else data.augment)
    seeds = [replica.seed for replica in state.replicas]
    rows = torch.stack([training_rows(data, batch_size, seed, engine.cfg.eval.population) for seed in seeds])
    given = [rows]
    if function.augment is not None:
        given.append(torch.stack([step_keys(seed, 0, rows.shape[1]) for seed in seeds]))
    names, sums = running(state.buffers), [torch.zeros(()) for _ in running(state.buffers)]
    for some in zip(*(part.split(AT_ONCE, dim=1) for part in given), strict=True):
        found = engine.apply(function, state, list(some), ["images"])
        sums = [total + part.double().sum(1) for total, part in zip(sums, found, strict=True)]
    means = {name: (total / rows.shape[1]).float() for name, total in zip(names, sums, strict=True)}
    return state.sharing(buffers=state.buffers | {k: mean.to(data.device) for k, mean in means.items()})


def training_rows(data: Dataset, batch_size: int, seed: int, limit: int | None = None) -> Tensor:
    """The first epoch of `seed` as rows of training images, (batches, batch_size) int64; all or `limit` batches."""
    count = data.examples // batch_size
    count = count if limit is None else min(limit, count)
    return data.seen(seed, batch_indices(seed, data.examples, batch_size, 0, count))


def _mixed(examples: int) -> Tensor:
    """A fixed random order of so many examples."""
    return torch.randperm(examples, generator=generator("evaluate"))


def _scored(
    engine: Engine,
    state: State,
    data: Dataset,
    rows: Tensor,
    shared: tuple[str, str],
    split: str,
    suffix: str = "",
    chunk: int = 0,
) -> Values:
    """Score of the images `rows`, (n,), or (S, n): each replica's own.

    A diverged net has no accuracy: NaN, not the share of the class that argmax names.
    """
    function = Score(**net_of(data, shared_model(engine.cfg.model), "batch" if chunk else "moving"))
    chunk = chunk or (500 if data.flat else 50)
    rows, totals = rows.view(-1, rows.shape[-1]), None
    n = rows.shape[1]
    whole = n // chunk * chunk
    for part in (rows[:, :whole].unflatten(1, (-1, chunk)), rows[:, None, whole:]):
        if part.numel():
            sums = torch.stack(engine.apply(function, state, [part], shared)).sum(2)
            totals = sums if totals is None else totals + sums
    assert totals is not None
    means = totals / n  # (2 or 3, S)
    means[1:] = means[1:].where(means[0].isfinite(), torch.nan)
    names = [f"{split}/{name}{suffix}" for name in ("loss", "accuracy", "top5")]
    return [dict(zip(names, row, strict=False)) for row in means.T.tolist()]
