"""Class probabilities of trained networks, by one crop or ten, and the ensemble of their mean (Figure 4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnrepro.data import Dataset

CROPS = {"single": 1, "10crop": 10}
SHIFT = 1 / 8  # of the width: how far the four corner crops lie from the centre


def views(x: Tensor, crops: int) -> list[Tensor]:
    """x (n, 3, H, W) itself, or ten views: centre and four corners, and all of them mirrored.

    The paper crops 224 pixels out of 256. Images that are no larger than the network's input are shifted
    instead, by an eighth of their width, their edges repeated.
    """
    if crops == 1:
        return [x]
    h, w = x.shape[2:]
    dy, dx = round(h * SHIFT), round(w * SHIFT)
    padded = nn.functional.pad(x, (dx, dx, dy, dy), mode="replicate")
    corners = [(dy, dx), (0, 0), (0, 2 * dx), (2 * dy, 0), (2 * dy, 2 * dx)]
    shifted = [padded[:, :, top : top + h, left : left + w] for top, left in corners]
    return shifted + [view.flip(3) for view in shifted]


@torch.no_grad()
def probabilities(model: nn.Module, data: Dataset, crops: int, chunk: int = 50) -> Tensor:
    """Mean over the views of the class probabilities of the evaluation images, (n, classes), float64."""
    model.eval()
    found = []
    for start in range(0, len(data.eval_labels), chunk):
        x = data.inputs(data.eval_images[start : start + chunk])
        each = [model(view.contiguous())[0].double().softmax(1) for view in views(x, crops)]
        found.append(torch.stack(each).mean(0))
    return torch.cat(found)


def correct(p: Tensor, labels: Tensor, top: int) -> Tensor:
    """1 where the label is among the `top` most probable classes, else 0; p (n, classes) -> (n,) int64."""
    return (p.topk(min(top, p.shape[1])).indices == labels[:, None]).any(1).long()


def judged(members: dict[str, Tensor], labels: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """(network, "correct" or "correct5", (n,) 0/1) of every member and of their arithmetic mean."""
    everyone = members | {"ensemble": torch.stack(list(members.values())).mean(0)}
    for name, p in everyone.items():
        yield name, "correct", correct(p, labels, 1)
        yield name, "correct5", correct(p, labels, 5)
