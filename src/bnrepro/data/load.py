"""A configuration -> its data set: read, cut into training, validation and test images, prepared."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bnrepro.config import IMAGES, SMALLEST, DataConfig, InceptionConfig, ModelConfig
from bnrepro.data.dataset import DataError, Dataset, Images
from bnrepro.data.mnist import mnist, mnist5k
from bnrepro.rng import generator

BINARY_ABOVE = 127
# cfg -> images (n, 784) uint8 and labels (n,) int64 of training, then of test
READERS = {"mnist5k": lambda cfg: mnist5k(), "mnist": mnist}


def load(cfg: DataConfig, model: ModelConfig | None = None) -> Dataset:
    """Read `cfg.name`, cut the validation split, binarize. Raises DataError.

    With `model` also if the images are too small for it.
    """
    if cfg.name in IMAGES:
        from bnrepro.data.images import load_images

        data = _colour(load_images(cfg), cfg)
    else:
        tensors = READERS[cfg.name](cfg)
        data = Dataset(*tensors, scale=1 / 255, split="test", classes=len(tensors[1].unique()))
    data = _subsets(data, cfg)
    if cfg.batch_size > data.examples:
        cut = " and ".join(
            f"data.{key}={getattr(cfg, key)}" for key in ("moved", "holdout", "examples") if getattr(cfg, key)
        )
        left = f"{cut} leave {data.examples}" if cut else f"{cfg.name} has only {data.examples}"
        raise DataError(f"{left} training images, fewer than data.batch_size={cfg.batch_size}")
    if isinstance(model, InceptionConfig) and not data.flat:
        least, size = SMALLEST[model.stem], "x".join(map(str, data.shape[:2]))
        if least > min(data.shape[:2]):
            raise DataError(
                f"images of {size} are too small for model.stem={model.stem}: set data.size={least}"
            )
    if not data.flat and cfg.crop >= min(data.shape[:2]):
        raise DataError(f"data.crop={cfg.crop}: must be below the images' {min(data.shape[:2])} pixels")
    if data.flat and cfg.binarize:
        images = {k: v for k, v in vars(data).items() if k.endswith("images") and v is not None}
        binary = {k: (v > BINARY_ABOVE).to(torch.uint8) for k, v in images.items()}
        data = replace(data, **binary, scale=1.0)
    return data


def _colour(read, cfg: DataConfig) -> Dataset:
    """Pixels 0..255 become -1..1. Measured, as "test", are the validation images: others have no labels."""
    return Dataset(
        read.images,
        read.labels,
        read.val_images,
        read.val_labels,
        scale=2 / 255,
        split="test",
        offset=-1.0,
        classes=read.classes,
        augment=cfg if cfg.crop or cfg.flip or cfg.distort else None,
    )


def _subsets(data: Dataset, cfg: DataConfig) -> Dataset:
    """Move data.moved images to the test set, set data.holdout aside; of the others a seed sees data.examples.

    Which ones: a permutation that the name of the data seeds, class by class (MNIST's holdout: as it comes).
    """
    if cfg.moved:
        order = _class_by_class(_permuted(data, "moved", cfg), data.labels)
        moved, labels = _some(data.images, order[: cfg.moved]), data.labels[order[: cfg.moved]]
        test = {"eval_images": moved, "eval_labels": labels}
        if len(data.eval_labels):
            test["eval_images"] = _joined(data.eval_images, moved)
            test["eval_labels"] = torch.cat([data.eval_labels, labels])
        data = replace(_left(data, order[cfg.moved :], f"data.moved={cfg.moved}"), **test)
    if cfg.holdout:
        order = _permuted(data, "holdout", cfg)
        order = order if data.flat else _class_by_class(order, data.labels)
        val = order[: cfg.holdout]
        held = {"eval_images": _some(data.images, val), "eval_labels": data.labels[val], "split": "val"}
        if len(data.eval_labels):
            held |= {"test_images": data.eval_images, "test_labels": data.eval_labels}
        data = replace(_left(data, order[cfg.holdout :], f"data.holdout={cfg.holdout}"), **held)
    if cfg.examples:
        if cfg.examples > len(data.labels):
            raise DataError(
                f"data.examples={cfg.examples}: {cfg.name} has only {len(data.labels)} for training"
            )
        data = replace(data, kept=cfg.examples)
    return data


def _permuted(data: Dataset, setting: str, cfg: DataConfig) -> Tensor:
    """The training images in the order in which `setting` takes them. Raises DataError if it takes them all."""
    if (taken := getattr(cfg, setting)) >= (count := len(data.labels)):
        left = f" left by data.moved={cfg.moved}" if cfg.moved and setting != "moved" else ""
        raise DataError(f"data.{setting}={taken}: {cfg.name} has only {count} training images{left}")
    return torch.randperm(count, generator=generator(setting, cfg.name))


def _class_by_class(order: Tensor, labels: Tensor) -> Tensor:
    """The same rows, the first of every class, then the second of every class, ...: as many of each at the front."""
    of = labels[order].cpu()
    rows, counts = of.argsort(stable=True), of.bincount()
    nth = torch.empty_like(of)
    nth[rows] = torch.arange(len(of)) - (counts.cumsum(0) - counts)[of[rows]]
    return order[nth.argsort(stable=True)]


def _left(data: Dataset, rows: Tensor, setting: str) -> Dataset:
    """The training images that `setting` leaves. Raises DataError where a class has lost all of its own."""
    before, after = (labels.bincount(minlength=data.classes) for labels in (data.labels, data.labels[rows]))
    if lost := int(((before > 0) & (after == 0)).sum()):
        raise DataError(f"{setting} leaves {lost} of {data.classes} classes without training images")
    return replace(data, images=_some(data.images, rows), labels=data.labels[rows])


def _some(images: Images, rows: Tensor) -> Images:
    """A stream of files stays one; of a tensor the rows are copied."""
    return images[rows] if isinstance(images, Tensor) else images.select(rows)


def _joined(one: Images, other: Images) -> Images:
    if isinstance(one, Tensor):
        return torch.cat([one, other])
    return type(one)([*one.sources, *other.sources], one.size, one.skip)
