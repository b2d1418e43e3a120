"""Loss and accuracy over a split, with the inference statistics one asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from bnrepro.data import Dataset, batch_indices
from bnrepro.data.dataset import Images
from bnrepro.norm import normalization_layers
from bnrepro.optim import Tensors
from bnrepro.streams import generator

TRAIN_EXAMPLES = 10_000  # at most: as many as the test set has


def evaluate(model: nn.Module, data: Dataset, suffix: str = "") -> dict[str, float]:
    """{"<split>/loss<suffix>", "<split>/accuracy<suffix>"} in evaluation mode; the loss in nats.

    Of colour images also "<split>/top5<suffix>", the share whose class is among the five most likely.
    """
    with _logits(model) as logits:
        return _measured(logits, data, data.eval_images, data.eval_labels, data.split, suffix)[0]


def evaluate_stacked(
    model: nn.Module, params: Tensors, buffers: Tensors, data: Dataset
) -> list[dict[str, float]]:
    """`evaluate` of S networks of model's shape at once: params and buffers {name: (S, ...)}."""
    model.eval()

    def logits(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        return functional_call(model, (params, buffers), (x,))[0]

    each = vmap(logits, in_dims=(0, 0, None))
    images, labels = data.eval_images, data.eval_labels
    return _measured(lambda x: each(params, buffers, x), data, images, labels, data.split)


def evaluate_train(model: nn.Module, data: Dataset) -> dict[str, float]:
    """{"train/loss_eval", "train/accuracy_eval"}: of 10,000 training images at most, in evaluation mode."""
    images, labels = data.images[:TRAIN_EXAMPLES], data.labels[:TRAIN_EXAMPLES]
    if not data.flat:  # colour images are listed class by class
        rows = _mixed(len(data.labels))[:TRAIN_EXAMPLES].to(data.labels.device)
        images, labels = data.images[rows], data.labels[rows]
    with _logits(model) as logits:
        return _measured(logits, data, images, labels, "train", "_eval")[0]


def evaluate_by_batch(model: nn.Module, data: Dataset, batch_size: int) -> dict[str, float]:
    """{"<split>/loss_batch", ...}: BN by the statistics of test batches of `batch_size`, in the file's order.

    What one gets who forgets to switch to evaluation mode. The last, incomplete batch is left out. Moves the
    running statistics of `model`.
    """
    whole = len(data.eval_labels) // batch_size * batch_size
    images, labels = data.eval_images[:whole], data.eval_labels[:whole]
    if not data.flat:
        rows = _mixed(len(data.eval_labels))[:whole].to(data.labels.device)
        images, labels = data.eval_images[rows], data.eval_labels[rows]
    with _logits(model) as logits:
        for layer in normalization_layers(model):
            layer.train()
        return _measured(logits, data, images, labels, data.split, "_batch", batch_size)[0]


def _mixed(examples: int) -> Tensor:
    """A fixed random order of so many examples."""
    return torch.randperm(examples, generator=generator("evaluate"))


@contextmanager
def _logits(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """x (n, ...) -> logits (1, n, classes) of one network, which is in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        yield lambda x: model(x)[0][None]
    finally:
        model.train(was_training)


@torch.no_grad()
def _measured(
    logits_of: Callable[[Tensor], Tensor],
    data: Dataset,
    images: Images,
    labels: Tensor,
    split: str,
    suffix: str = "",
    chunk: int = 0,
) -> list[dict[str, float]]:
    """Of each of S networks, logits_of: x (n, ...) -> (S, n, classes).

    A diverged net has no accuracy: NaN, not the share of the class that argmax names first.
    """
    losses, correct, among_five = [], [], []
    chunk = chunk or (500 if data.flat else 50)
    for start, targets in zip(range(0, len(labels), chunk), labels.split(chunk), strict=True):
        logits = logits_of(data.inputs(images[start : start + chunk]))
        each = targets.expand(len(logits), -1)
        loss = cross_entropy(logits.flatten(0, 1), each.flatten(), reduction="none").view(each.shape)
        losses.append(loss.sum(1, dtype=torch.float64))
        correct.append((logits.argmax(2) == each).sum(1))
        if not data.flat:
            likely = logits.topk(min(5, data.classes)).indices
            among_five.append((likely == each[..., None]).flatten(1).sum(1))
    n, nothing = len(labels), torch.tensor(torch.nan)
    mean_loss = torch.stack(losses).sum(0) / n
    shares = {"accuracy": correct} | ({} if data.flat else {"top5": among_five})
    columns = {f"{split}/loss{suffix}": mean_loss.tolist()}
    for name, counts in shares.items():
        share = torch.stack(counts).sum(0).double() / n
        columns[f"{split}/{name}{suffix}"] = share.where(mean_loss.isfinite(), nothing.to(share)).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def training_batches(data: Dataset, batch_size: int, seed: int, limit: int | None = None) -> Iterator[Tensor]:
    """The first epoch of `seed` as mini-batches of batch_size inputs, all or `limit` of them."""
    for rows in training_rows(data, batch_size, seed, limit):
        yield data.inputs(data.images[rows.to(data.labels.device)])


def training_rows(data: Dataset, batch_size: int, seed: int, limit: int | None = None) -> Tensor:
    """Which training images those batches hold, (batches, batch_size) int64."""
    count = len(data.images) // batch_size
    count = count if limit is None else min(limit, count)
    return batch_indices(seed, len(data.images), batch_size, 0, count)
