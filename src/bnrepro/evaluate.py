"""Loss and accuracy over a split, with the inference statistics one asks for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro.data import Dataset, batch_indices
from bnrepro.data.dataset import Images
from bnrepro.norm import normalization_layers
from bnrepro.streams import generator

TRAIN_EXAMPLES = 10_000  # at most: as many as the test set has


def evaluate(model: nn.Module, data: Dataset, suffix: str = "") -> dict[str, float]:
    """{"<split>/loss<suffix>", "<split>/accuracy<suffix>"} in evaluation mode; the loss in nats.

    Of colour images also "<split>/top5<suffix>", the share whose class is among the five most likely.
    """
    return _measured(model, data, data.eval_images, data.eval_labels, data.split, suffix)


def evaluate_train(model: nn.Module, data: Dataset) -> dict[str, float]:
    """{"train/loss_eval", "train/accuracy_eval"}: of 10,000 training images at most, in evaluation mode."""
    images, labels = data.images[:TRAIN_EXAMPLES], data.labels[:TRAIN_EXAMPLES]
    if not data.flat:  # colour images are listed class by class
        rows = _mixed(len(data.labels))[:TRAIN_EXAMPLES].to(data.labels.device)
        images, labels = data.images[rows], data.labels[rows]
    return _measured(model, data, images, labels, "train", "_eval")


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
    layers = normalization_layers(model)
    return _measured(model, data, images, labels, data.split, "_batch", batch_size, layers)


def _mixed(examples: int) -> Tensor:
    """A fixed random order of so many examples."""
    return torch.randperm(examples, generator=generator("evaluate"))


@torch.no_grad()
def _measured(
    model: nn.Module,
    data: Dataset,
    images: Images,
    labels: Tensor,
    split: str,
    suffix: str,
    chunk: int = 0,
    in_training: list | None = None,
) -> dict[str, float]:
    """A diverged net has no accuracy: NaN, not the share of the class that argmax names first."""
    was_training = model.training
    model.eval()
    for layer in in_training or ():
        layer.train()
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    correct = torch.zeros(2, dtype=torch.int64, device=labels.device)
    chunk = chunk or (500 if data.flat else 50)
    for start, targets in zip(range(0, len(labels), chunk), labels.split(chunk), strict=True):
        logits, _ = model(data.inputs(images[start : start + chunk]))
        loss += cross_entropy(logits, targets, reduction="sum")
        correct[0] += (logits.argmax(1) == targets).sum()
        if not data.flat:
            likely = logits.topk(min(5, data.classes)).indices
            correct[1] += (likely == targets[:, None]).sum()
    model.train(was_training)
    n = len(labels)
    shares = (correct.double() / n).tolist() if loss.isfinite() else [float("nan")] * 2
    measured = {f"{split}/loss{suffix}": loss.item() / n, f"{split}/accuracy{suffix}": shares[0]}
    return measured if data.flat else measured | {f"{split}/top5{suffix}": shares[1]}


def training_batches(data: Dataset, batch_size: int, seed: int, limit: int | None = None) -> Iterator[Tensor]:
    """The first epoch of `seed` as mini-batches of batch_size inputs, all or `limit` of them."""
    count = len(data.images) // batch_size
    count = count if limit is None else min(limit, count)
    for rows in batch_indices(seed, len(data.images), batch_size, 0, count):
        yield data.inputs(data.images[rows.to(data.labels.device)])
