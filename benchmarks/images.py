"""Rows of colour images: training Inception, ours against the usual loop, the machine's limit, decoding.

2,500 JPEGs of 64 x 64, in some rows 32 x 32, drawn by the program, 10 classes; Inception with BN at a quarter
of its width, batch 32, momentum, L2, and the same augmentation on both sides.
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

from benchmarks.ours import named
from benchmarks.task import Result, Run, clock, device, rate
from bnrepro.config import Config, DataConfig, InceptionConfig, OptimConfig, TrainConfig
from bnrepro.data import Dataset, load
from bnrepro.models import build
from bnrepro.training.engines import Engine, build_engine
from bnrepro.training.state import Replica, State

BATCH, SIZE, CLASSES = 32, 64, 10
MODEL = InceptionConfig(norm="bn", native=True, activation="relu", multiplier=0.25)
OPTIM = OptimConfig(lr=0.01, momentum=0.9, weight_decay=1e-4)
VARIED = {"crop": 4, "flip": True, "distort": 0.4}


@contextmanager
def pictures(size: int, copies: int = 1) -> Iterator[Path]:
    """An ImageNet-like folder of JPEGs, train/ and val/, each so many times, that is gone afterwards."""
    from PIL import Image

    data = load(DataConfig(name="shapes", batch_size=BATCH, size=size))
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


def reference(steps: int, size: int = SIZE) -> Result:
    """As torchvision's reference script does it: ImageFolder, DataLoader with 2 workers, an eager loop."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    vary = [
        transforms.RandomCrop(size, padding=VARIED["crop"], padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(*[VARIED["distort"]] * 3),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    model = build(MODEL, (size, size, 3), CLASSES).reset(0).to(device()).train()
    optimizer = torch.optim.SGD(model.parameters(), OPTIM.lr, OPTIM.momentum, 0, OPTIM.weight_decay)
    criterion = nn.CrossEntropyLoss()
    with pictures(size) as folder:
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


def ours(steps: int, seeds: int, size: int = SIZE) -> Result:
    with _training(seeds, _varied(size)) as (train, engine):
        return {"images_per_s": _rate(train, steps) * BATCH * seeds, "note": named(engine)}


def data_share(steps: int) -> Result:
    """Batches of training images, gathered and varied, in percent of a step: one replica, one process."""
    data = _varied(SIZE)
    with _training(1, data) as (train, _):
        step = 1 / _rate(train, steps)
    index, key = torch.arange(BATCH), torch.tensor([0, 0])
    batch = 1 / rate(lambda n: [data.batch(index, key) for _ in range(n)], 50)
    return {"percent": 100 * batch / step, "note": "of a step's time for gathering and varying its images"}


def flop_limit(steps: int) -> Result:
    """What large matrix products would allow: FLOP of a step (torch.utils.flop_counter) at their rate."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.limit import best_flop_per_s

    model, x = build(MODEL, (SIZE, SIZE, 3), CLASSES).reset(0).train(), torch.randn(BATCH, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter:
        model(x)[0].sum().backward()
    flop = counter.get_total_flops() / BATCH
    flop_per_s, how = best_flop_per_s()
    note = f"{flop / 1e6:.0f} MFLOP an image; {how}"
    return {"images_per_s": flop_per_s / flop, "limit_gflops": flop_per_s / 1e9, "note": note}


def decoding(steps: int, processes: int) -> Result:
    """Build the cache of 20,000 JPEGs on so many cores, from listing them to the array on disk."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processes])
    with pictures(SIZE, copies=8) as folder, tempfile.TemporaryDirectory() as cache:
        cfg = DataConfig(name="imagefolder", root=str(folder), cache=cache, size=SIZE, batch_size=BATCH)
        begin = time.perf_counter()
        data = load(cfg)
        images = len(data.labels) + len(data.eval_labels)
        return {
            "images_per_s": images / (time.perf_counter() - begin),
            "note": f"{processes} core{'s' * (processes > 1)}, {images:,} JPEGs of 64x64",
        }


@functools.cache
def _varied(size: int) -> Dataset:
    return load(_data(size)).to(device())


def _data(size: int) -> DataConfig:
    return DataConfig(name="shapes", batch_size=BATCH, size=size, **VARIED)


@contextmanager
def _training(seeds: int, data: Dataset) -> Iterator[tuple[Run, Engine]]:
    """A Run that trains so many seeds with the engine that the project chooses; and that engine."""
    train = TrainConfig(device=device().type)
    cfg = Config(seeds=seeds, data=_data(data.shape[0]), model=MODEL, optim=OPTIM, train=train)
    state, step = State([Replica(cfg, seed) for seed in cfg.seeds], data), 0
    engine = build_engine(state, data)

    def run(steps: int) -> None:
        nonlocal step
        engine.advance(state, step, step + steps)
        step += steps

    try:
        yield run, engine
    finally:
        engine.close()


def _rate(train: Run, steps: int) -> float:
    """Steps a second: these are a hundred times as long as the MLP's, so a twentieth of them is timed."""
    train(3)
    steps, begin = max(5, steps // 20), clock()
    train(steps)
    return steps / (clock() - begin)
