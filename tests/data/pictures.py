"""Small image files and folders for the tests of colour images."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bnrepro.config import DataConfig
from bnrepro.data.images import load_images

WNIDS = ["n03", "n01", "n02"]  # not in alphabetical order, as in the real list


def picture(seed: int, width: int = 16, height: int = 16, mode: str = "RGB", kind: str = "JPEG") -> bytes:
    """A file of smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).convert(mode).save(file, kind)
    return file.getvalue()


def tiny_files(wnids: list[str] = WNIDS, train: int = 4, val: int = 2, first: int = 0) -> dict[str, bytes]:
    """Tiny ImageNet's layout: the files by name."""
    files, lines = {"wnids.txt": "\n".join(wnids).encode()}, []
    for c, wnid in enumerate(wnids, first):
        for i in range(train):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = picture(100 * c + i)
        for i in range(val):
            name = f"val_{10 * i + c}.JPEG"
            files[f"val/images/{name}"] = picture(100 * c + 50 + i)
            lines.append(f"{name}\t{wnid}\t0\t0\t9\t9")
    return files | {"val/val_annotations.txt": ("\n".join(lines) + "\n").encode()}


def write_zip(path: Path, files: dict[str, bytes], base: str = "tiny-imagenet-200/") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(base + name, content)
    return path


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def two_classes() -> dict[str, bytes]:
    """An image folder with the classes a and b, 2 + 1 images each: the files by name."""
    places = ("train/{}/0.jpg", "train/{}/1.jpg", "val/{}/2.jpg")
    return {place.format(c): picture(10 * ord(c) + i) for c in "ab" for i, place in enumerate(places)}


def loaded(cfg: DataConfig) -> Any:
    """`load_images`; whether its images are tensors or streams is known where it is called."""
    return load_images(cfg)


def data_config(place: Path, name: str, **other: Any) -> DataConfig:
    """With the data in place / "data" and the cache in place / "cache"."""
    folders: dict[str, Any] = {"root": str(place / "data"), "cache": str(place / "cache")}
    return DataConfig(name=name, binarize=False, **(folders | other))
