"""Loss and accuracy over a split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro.data import Dataset, batch_indices


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset, suffix: str = "", chunk: int = 500) -> dict[str, float]:
    """{"<split>/loss<suffix>", "<split>/accuracy<suffix>"} in evaluation mode; the loss in nats.

    A diverged net has no accuracy: NaN, not the share of the class that argmax names first.
    """
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=data.images.device)
    correct = torch.zeros((), dtype=torch.int64, device=data.images.device)
    for rows, labels in zip(data.eval_images.split(chunk), data.eval_labels.split(chunk), strict=True):
        logits, _ = model(rows.float() * data.scale)
        loss += cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    model.train(was_training)
    n = len(data.eval_labels)
    return {
        f"{data.split}/loss{suffix}": loss.item() / n,
        f"{data.split}/accuracy{suffix}": correct.item() / n if loss.isfinite() else float("nan"),
    }


def training_batches(data: Dataset, batch_size: int, seed: int, limit: int | None = None) -> Iterator[Tensor]:
    """The first epoch of `seed` as mini-batches of batch_size inputs, all or `limit` of them."""
    count = len(data.images) // batch_size
    count = count if limit is None else min(limit, count)
    for rows in batch_indices(seed, len(data.images), batch_size, 0, count):
        yield data.images[rows.to(data.images.device)].float() * data.scale
