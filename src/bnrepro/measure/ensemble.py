"""Class probabilities of trained networks, by one crop, 10 or 144, and the ensemble of their mean (Figure 4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnrepro.data import Dataset
from bnrepro.data.dataset import Images

CROPS = {"single": 1, "10crop": 10, "144crop": 144}
# Of 144 crops: Szegedy et al. 2014, arXiv:1409.4842.
SCALES = tuple(side / 224 for side in (256, 288, 320, 352))
SHIFT = 1 / 8  # of the width: how far the four corner crops lie from the centre


def views(x: Tensor, crops: int) -> list[Tensor]:
    """x (n, 3, H, W) itself, or ten views: centre and four corners, and all of them mirrored; or 144.

    The paper crops 224 pixels out of 256. Images that are no larger than the network's input are shifted
    instead, by an eighth of their width, their edges repeated.

    144: at each of four sizes, of three squares (left, centre, right) the four corners, the centre and the square as a
    whole, mirrored too. The three squares of a square image are one: 48 different views, each for three.
    """
    if crops == 1:
        return [x]
    h, w = x.shape[2:]
    if crops == 144:
        found = []
        for scale in SCALES:
            height, width = round(scale * h), round(scale * w)
            large = nn.functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)
            tops, lefts = (0, height - h), (0, width - w)
            places = [((height - h) // 2, (width - w) // 2), *((top, left) for top in tops for left in lefts)]
            found += [large[:, :, top : top + h, left : left + w] for top, left in places] + [x]
        return found + [view.flip(3) for view in found]
    dy, dx = round(h * SHIFT), round(w * SHIFT)
    padded = nn.functional.pad(x, (dx, dx, dy, dy), mode="replicate")
    corners = [(dy, dx), (0, 0), (0, 2 * dx), (2 * dy, 0), (2 * dy, 2 * dx)]
    shifted = [padded[:, :, top : top + h, left : left + w] for top, left in corners]
    return shifted + [view.flip(3) for view in shifted]


@torch.no_grad()
def probabilities(model: nn.Module, data: Dataset, images: Images, crops: int, chunk: int = 50) -> Tensor:
    """Mean over the views of the class probabilities of images (n, H, W, 3) of the data set: (n, classes), float64."""
    model.eval()
    found = []
    for start in range(0, len(images), chunk):
        x = data.inputs(images[start : start + chunk])
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
