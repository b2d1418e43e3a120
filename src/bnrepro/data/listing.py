"""What images there are, and their classes: files in folders or members of zip archives. Decodes nothing."""

from __future__ import annotations

import functools
import os
import re
import zipfile
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError
from bnrepro.data.download import download
from bnrepro.data.source import Source, members

TINY_URL = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
IMAGENETTE = {"160px": "imagenette2-160", "320px": "imagenette2-320", "full": "imagenette2"}
IMAGENETTE_COUNTS = (9469, 3925)
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_TINY = re.compile(r"(train|val)/([^/]+)/(?:images/)?[^/.][^/]*\.jpe?g", re.IGNORECASE)


class Listing(NamedTuple):
    """Images with their labels, class by class; a label is a position in `classes`."""

    train: list[tuple[Source, int]]
    val: list[tuple[Source, int]]
    classes: list[str]


def tiny_imagenet(cfg: DataConfig) -> Listing:
    """The zip archive, several that are united, or the unpacked folder; downloaded if there is none.

    Raises DataError.
    """
    root = Path(cfg.root)
    trees = _tiny_trees(root)
    if not trees:
        from torchvision.datasets.utils import download_url

        name = "tiny-imagenet-200.zip"
        get = functools.partial(download_url, TINY_URL, str(root), name, TINY_MD5)
        download(cfg, f"{name} (248 MB)", f"put {name} into {root}", "shapes", get, [root / name])
        trees = _tiny_trees(root)
    where = " and ".join(map(str, trees))
    classes: list[str] = []
    train: dict[str, list[Source]] = {}
    val: dict[str, list[Source]] = {}
    for place, files in trees.items():
        classes += _text(place, files, "wnids.txt").split()
        for name in sorted(files):
            if found := _TINY.fullmatch(name):
                part = train if found[1].lower() == "train" else val
                part.setdefault(found[2], []).append(files[name])
        if not val.pop("images", None) and val:
            continue  # somebody has moved val/images/* to val/<class>/ already
        for line in sorted(_text(place, files, "val/val_annotations.txt").splitlines()):
            name, _, rest = line.partition("\t")
            if line.strip() and f"val/images/{name}" not in files:
                raise DataError(
                    f"{place}: val/val_annotations.txt names {name!r}, which is not in val/images"
                )
            if line.strip():
                val.setdefault(rest.partition("\t")[0], []).append(files[f"val/images/{name}"])
    chosen = _chosen(cfg, classes, where)
    return _listing(train, val, chosen, where)


def _tiny_trees(root: Path) -> dict[Path, dict[str, Source]]:
    """Of each folder or archive, the files by their names relative to where wnids.txt lies."""
    folders = (root, root / "tiny-imagenet-200", root / "tiny-imagenet")
    for place in (*folders, root / "tiny-imagenet" / "tiny-imagenet-200"):
        if (place / "wnids.txt").is_file():
            base = os.path.abspath(place)
            return {place: {os.path.relpath(path, base): Source(path) for path in _files(base)}}
    for place in folders:
        whole = place / "tiny-imagenet-200.zip"
        if archives := [whole] if whole.is_file() else sorted(place.glob("tiny-imagenet*.zip")):
            return {path: members(path) for path in archives}
    return {}


def _text(place: Path, files: dict[str, Source], name: str) -> str:
    if name not in files:
        raise DataError(f"{place}: no {name} in it")
    try:
        return files[name].read().decode()
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{files[name]} cannot be read ({error})") from error


def imagenette(cfg: DataConfig) -> Listing:
    """The smallest of the three published versions that has data.size pixels. Raises DataError."""
    if not cfg.size:
        raise DataError("data=imagenette: its images differ in size; set data.size, for example to 128")
    enough = ["160px"] * (cfg.size <= 160) + ["320px"] * (cfg.size <= 320) + ["full"]
    root = Path(cfg.root)
    version = next((v for v in enough if (root / IMAGENETTE[v]).is_dir()), enough[0])
    folder = root / IMAGENETTE[version]
    if not folder.is_dir():
        from torchvision.datasets import Imagenette

        archive = root / f"{folder.name}.tgz"
        get = functools.partial(Imagenette, str(root), "train", version, download=True)
        download(cfg, archive.name, f"put {archive.name} into {root}", "shapes", get, [archive, folder])
    whole = _tree(replace(cfg, num_classes=0), folder, [])
    if (len(whole.train), len(whole.val)) != IMAGENETTE_COUNTS:
        raise DataError(f"{folder} is incomplete; delete it to unpack or download it again")
    return _tree(cfg, folder, [])


def imagefolder(cfg: DataConfig) -> Listing:
    """<root>/train/<class>/ and <root>/val/<class>/; classes.txt or wnids.txt may name the classes.

    Without val/ only training images, of which data.moved or data.holdout sets some aside. Raises DataError.
    """
    root = Path(cfg.root)
    lists = [root / name for name in ("classes.txt", "wnids.txt") if (root / name).is_file()]
    try:
        listed = lists[0].read_text().splitlines() if lists else []
    except (OSError, ValueError) as error:
        raise DataError(f"{lists[0]} cannot be read ({error})") from error
    return _tree(cfg, root, [line.strip() for line in listed if line.strip()])


def _tree(cfg: DataConfig, root: Path, classes: list[str]) -> Listing:
    parts = [part for part in (root / "train", root / "val") if part.is_dir()]
    for name in ("train", "val"):
        if root / name not in parts and (name == "train" or not (cfg.holdout or cfg.moved)):
            less = (
                ""
                if name == "train"
                else ", or data.holdout to measure on so many training images (or data.moved)"
            )
            raise DataError(f"data={cfg.name}: no folder {root / name}; set data.root or BNREPRO_DATA{less}")
    entries = (entry for part in parts for entry in os.scandir(part))
    classes = classes or sorted({e.name for e in entries if e.is_dir() and e.name[0] != "."})
    chosen = _chosen(cfg, classes, str(root))
    train, *val = ({name: _images(part / name) for name in chosen} for part in parts)
    return _listing(train, val[0] if val else None, chosen, str(root))


def _images(folder: Path) -> list[Source]:
    return [Source(path) for path in _files(os.path.abspath(folder)) if path.lower().endswith(EXTENSIONS)]


def _files(folder: str) -> list[str]:
    """The regular files below it, none hidden, each folder once, whatever links lead back to it."""
    found: list[tuple[str, str]] = []
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        folders[:] = [] if real in seen else sorted(name for name in folders if name[0] != ".")
        if real not in seen:
            found += [(at, name) for name in names if name[0] != "."]
        seen.add(real)
    paths = [os.path.join(*pair) for pair in sorted(found)]
    # a link to nothing stays: it is refused where it is read, not left out in silence
    return [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]


def _chosen(cfg: DataConfig, classes: list[str], where: str) -> list[str]:
    if repeated := [name for name, count in Counter(classes).items() if count > 1]:
        raise DataError(f"{where}: class {repeated[0]} is listed twice")
    if len(classes) < max(2, cfg.num_classes):
        asked = f"data.num_classes={cfg.num_classes}" if cfg.num_classes else "at least 2 classes are needed"
        raise DataError(f"{asked}: {where} has only {len(classes)}")
    return classes[: cfg.num_classes or None]


def _listing(
    train: dict[str, list[Source]], val: dict[str, list[Source]] | None, classes: list[str], where: str
) -> Listing:
    """`val` None: there are none."""
    for part, found in (("train", train), ("val", val)):
        if found is None:
            continue
        if lacking := [name for name in classes if not found.get(name)]:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise DataError(f"{where}: no {part} images of class {lacking[0]}{more}")
    numbered = list(enumerate(classes))
    return Listing(
        [(source, i) for i, name in numbered for source in train[name]],
        [(source, i) for i, name in numbered for source in (val or {}).get(name, [])],
        classes,
    )
