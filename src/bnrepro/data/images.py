"""Colour images and their labels, of whichever data set is named."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bnrepro.config import DataConfig
from bnrepro.data import listing
from bnrepro.data.cache import cached
from bnrepro.data.dataset import DataError
from bnrepro.data.shapes import shapes
from bnrepro.data.stream import Stream


class Images(NamedTuple):
    """Images (N, H, W, 3) uint8, with data.decode=stream not tensors; labels (N,) int64, below `classes`."""

    images: Tensor | Stream
    labels: Tensor
    val_images: Tensor | Stream
    val_labels: Tensor
    classes: int


def load_images(cfg: DataConfig) -> Images:
    """Training and validation images of cfg.name. Raises DataError before anything is half done."""
    match cfg.name:
        case "shapes":
            return Images(*shapes(cfg))
        case "tiny_imagenet":
            found = listing.tiny_imagenet(cfg)
        case "imagenette":
            found = listing.imagenette(cfg)
        case _:
            found = listing.imagefolder(cfg)
    both = [*found.train, *found.val]
    sources, labels = [source for source, _ in both], torch.tensor([label for _, label in both])
    cut = len(found.train)
    if cfg.decode == "stream":
        if not cfg.size:
            raise DataError("data.decode=stream needs data.size: images that differ would stop the training")
        train, val = (Stream(s, cfg.size, cfg.corrupt == "skip") for s in (sources[:cut], sources[cut:]))
        return Images(train, labels[:cut], val, labels[cut:], len(found.classes))
    pixels, skipped = cached(cfg, sources)  # one cache of both, so that all are of one size
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[skipped] = False
    train_labels, val_labels = labels[:cut][kept[:cut]], labels[cut:][kept[cut:]]
    for part in (train_labels, val_labels) if found.val else (train_labels,):
        if lost := sorted(set(range(len(found.classes))) - set(part.tolist())):
            raise DataError(f"data.corrupt=skip: no image of class {found.classes[lost[0]]} can be decoded")
    cut = len(train_labels)
    return Images(pixels[:cut], train_labels, pixels[cut:], val_labels, len(found.classes))
