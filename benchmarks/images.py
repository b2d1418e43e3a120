"""Rows of colour images: training Inception, ours against the usual loop, the machine's limit, decoding.

2,500 JPEGs of 64 x 64 drawn by the program, 10 classes; Inception with BN at a quarter of its width, batch
32, momentum, L2, and the same augmentation on both sides.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from benchmarks.task import Result, clock, device, rate
from bnrepro.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from bnrepro.data import Dataset, load
from bnrepro.drives import build_replicas
from bnrepro.models import build

BATCH, SIZE, CLASSES = 32, 64, 10
MODEL = ModelConfig(name="inception", norm="bn", native=True, activation="relu", multiplier=0.25)
OPTIM = OptimConfig(lr=0.01, momentum=0.9, weight_decay=1e-4)
VARIED = {"crop": 4, "flip": True, "distort": 0.4}


@contextmanager
def pictures(copies: int = 1) -> Iterator[Path]:
    """An ImageNet-like folder of JPEGs, train/ and val/, each so many times, that is gone afterwards."""
    from PIL import Image

    data = load(DataConfig(name="shapes", batch_size=BATCH, size=SIZE))
    with tempfile.TemporaryDirectory() as folder:
        for part, images, labels in (
            ("train", data.images, data.labels),
            ("val", data.eval_images, data.eval_labels),
        ):
            for c in range(CLASSES):
                (Path(folder) / part / f"class{c}").mkdir(parents=True, exist_ok=True)
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                file = Path(folder) / part / f"class{label}" / f"{i}.JPEG"
                Image.fromarray(image.numpy()).save(file, quality=95)
                for copy in range(1, copies):
                    file.with_stem(f"{i}_{copy}").hardlink_to(file)
        yield Path(folder)


def reference(steps: int) -> Result:
    """As torchvision's reference script does it: ImageFolder, DataLoader with 2 workers, an eager loop."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    vary = [
        transforms.RandomCrop(SIZE, padding=VARIED["crop"], padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(*[VARIED["distort"]] * 3),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    model = build(MODEL, (SIZE, SIZE, 3), CLASSES).reset(0).to(device()).train()
    optimizer = torch.optim.SGD(model.parameters(), OPTIM.lr, OPTIM.momentum, 0, OPTIM.weight_decay)
    criterion = nn.CrossEntropyLoss()
    with pictures() as folder:
        files = ImageFolder(str(folder / "train"), transforms.Compose(vary))

        def train(steps: int) -> None:
            left = steps
            while left:
                for x, y in DataLoader(files, BATCH, shuffle=True, num_workers=2, drop_last=True):
                    optimizer.zero_grad()
                    criterion(model(x.to(device()))[0], y.to(device())).backward()
                    optimizer.step()
                    left -= 1
                    if not left:
                        break

        per_s = _rate(train, steps)
    return {"images_per_s": per_s * BATCH, "note": "eager, 2 loader workers"}


def ours(steps: int, seeds: int) -> Result:
    data = _varied()
    replicas = build_replicas(_config(seeds), data)
    try:
        per_s = _rate(lambda n: replicas.advance(replicas.step_no + n, measure=False), steps)
    finally:
        replicas.close()
    return {"images_per_s": per_s * BATCH * seeds, "note": replicas.eager_because or "compiled"}


def data_share(steps: int) -> Result:
    """Batches of training images, gathered and varied, in percent of a step: one replica, one process."""
    data = _varied()
    replicas = build_replicas(_config(1), data)
    step = 1 / _rate(lambda n: replicas.advance(replicas.step_no + n, measure=False), steps)
    index, key = torch.arange(BATCH), torch.tensor([0, 0])
    batch = 1 / rate(lambda n: [data.batch(index, key) for _ in range(n)], 50)
    return {"percent": 100 * batch / step, "note": "of a step's time for gathering and varying its images"}


def flop_limit(steps: int) -> Result:
    """What large matrix products would allow: FLOP of a step (torch.utils.flop_counter) at their rate."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.limit import SQUARE, _all_cores

    model, x = build(MODEL, (SIZE, SIZE, 3), CLASSES).reset(0).train(), torch.randn(BATCH, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter:
        model(x)[0].sum().backward()
    flop = counter.get_total_flops() / BATCH
    rates = {library: _all_cores(library, SQUARE) for library in ("torch", "numpy")}
    note = f"{flop / 1e6:.0f} MFLOP an image, {max(rates.values()) / 1e9:.0f} GFLOP/s"
    return {"images_per_s": max(rates.values()) / flop, "note": note}


def decoding(steps: int, processes: int) -> Result:
    """Build the cache of 20,000 JPEGs on so many cores, from listing them to the array on disk."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processes])
    with pictures(copies=8) as folder, tempfile.TemporaryDirectory() as cache:
        cfg = DataConfig(name="imagefolder", root=str(folder), cache=cache, size=SIZE, batch_size=BATCH)
        begin = time.perf_counter()
        data = load(cfg)
        images = len(data.labels) + len(data.eval_labels)
        return {
            "images_per_s": images / (time.perf_counter() - begin),
            "note": f"{processes} core{'s' * (processes > 1)}, {images:,} JPEGs of 64x64",
        }


@functools.cache
def _varied() -> Dataset:
    return load(DataConfig(name="shapes", batch_size=BATCH, size=SIZE, **VARIED))


def _config(seeds: int) -> Config:
    return Config(
        seeds=seeds,
        data=DataConfig(name="shapes", batch_size=BATCH, size=SIZE, **VARIED),
        model=MODEL,
        optim=OPTIM,
        train=TrainConfig(device=device().type),
    )


def _rate(train, steps: int) -> float:
    """Steps a second: these are a hundred times as long as the MLP's, so a twentieth of them is timed."""
    train(3)
    steps, begin = max(5, steps // 20), clock()
    train(steps)
    return steps / (clock() - begin)
