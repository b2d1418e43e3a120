"""Images decoded once into a .npy file of uint8 pixels, which is mapped into memory: no process copies it.

It has a row for every image; as many as were left out (data.corrupt=skip) are unused, at its end. A finished
cache is a folder <data>-<key>; one being built ends in ".part", and is taken up where it was left.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnrepro import files, machine
from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError
from bnrepro.data.decode import decode, warn_once
from bnrepro.data.source import Source, forget_archives
from bnrepro.progress import counted

FORMAT = 2  # a change of how images are decoded makes older caches others
PIXELS = "pixels.npy"
CHUNK = 128  # images a task
SECONDS_BETWEEN_SAVES = 5.0


def cached(cfg: DataConfig, sources: Sequence[Source]) -> tuple[Tensor, list[int]]:
    """Pixels (n, H, W, 3) uint8, mapped, and the positions of sources left out (data.corrupt=skip).

    Waits for another process that is building the same cache. Raises DataError; nothing is left then.
    """
    place = Path(cfg.cache or os.environ.get("BNREPRO_CACHE") or "~/.cache/bnrepro").expanduser()
    folder = place / f"{cfg.name}-{_key(cfg, sources)}"
    found = _open(folder)

    def waiting() -> None:
        print(f"waiting for another process that is decoding into {folder}", flush=True)

    if found is None:
        try:
            with files.locked(folder.with_name(folder.name + ".lock"), waiting):
                found = _open(folder)
                if found is None:
                    _build(cfg, sources, folder)
                    found = _open(folder)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DataError(
                f"cannot write the cache {folder}: {reason}; set data.cache or BNREPRO_CACHE"
            ) from error
    forget_archives()
    if found is None:
        raise DataError(f"the cache {folder} cannot be read back; set data.cache to a folder on another disk")
    if left := [str(sources[i]) for i in found[1]]:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warn_once(
            f"data.corrupt=skip: left out {len(left)} that cannot be decoded: {', '.join(left[:5])}{more}"
        )
    return found


def _key(cfg: DataConfig, sources: Sequence[Source]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {cfg.size} {cfg.corrupt}\n".encode())
    for source in sources:
        stamp = source.stamp
        if not stamp:
            try:
                info = os.stat(source.path)
            except OSError as error:
                raise DataError(f"{source} cannot be read ({error.strerror})") from error
            stamp = f"{info.st_size}-{info.st_mtime_ns}"
        digest.update(f"{source.path}\0{stamp}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _read(folder: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The pixels, mapped, and the state; None where there is no cache, or a damaged one."""
    try:
        # "c" maps copy on write: forked processes share the pages, none can alter the file
        pixels = np.load(folder / PIXELS, mmap_mode="c")
        return pixels, json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, EOFError):
        return None


def _open(folder: Path) -> tuple[Tensor, list[int]] | None:
    found = _read(folder)
    if found is None or found[1]["done"] != len(found[0]):
        return None
    pixels, skipped = found[0], found[1]["skipped"]
    return torch.from_numpy(pixels[: len(pixels) - len(skipped)]), skipped


def _build(cfg: DataConfig, sources: Sequence[Source], folder: Path) -> None:
    if folder.exists():
        print(f"the cache {folder} is truncated or damaged: decoding the images again", flush=True)
        shutil.rmtree(folder)
    part = folder.with_name(folder.name + ".part")
    try:
        if (found := _read(part)) is not None:
            pixels, state = found
            shape = pixels.shape
        else:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            shape, state = (len(sources), *_frame(cfg, sources)), {"done": 0, "skipped": []}
        needed = (len(sources) - state["done"]) * math.prod(shape[1:])
        free = shutil.disk_usage(part).free
        if needed > free:
            raise DataError(
                f"decoded images take {needed / 1e9:.2f} GB, {folder.parent} has {free / 1e9:.2f} GB free: "
                "set data.cache to another disk, or data.decode=stream"
            )
        if found is None:
            np.lib.format.open_memmap(part / PIXELS, "w+", np.uint8, shape)
        _fill(cfg, sources, part, state)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes was killed (no memory left?); start again to go on"
        ) from error
    except (DataError, OSError):
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.rename(folder)
    _save(folder, state)


def _frame(cfg: DataConfig, sources: Sequence[Source]) -> list[int]:
    """Height, width and 3, of all images: data.size, or those of the first that can be decoded."""
    if cfg.size:
        return [cfg.size, cfg.size, 3]
    for source in sources:
        try:
            return list(decode(source, 0).shape)
        except DataError:
            if cfg.corrupt == "refuse":
                raise
    raise DataError(f"data={cfg.name}: none of {len(sources)} images can be decoded")


def _fill(cfg: DataConfig, sources: Sequence[Source], part: Path, state: dict[str, Any]) -> None:
    """Decode what is missing, on all cores, and move the images left out to the end."""
    starts = range(state["done"], len(sources), CHUNK)
    chunks = (sources[start : start + CHUNK] for start in starts)
    # Processes: opening a small JPEG takes PIL as long as decoding it, and only the latter frees the GIL. All
    # cores, though other processes may share them: those that want the same images wait for this one.
    pool = machine.pool(machine.cores(share=False))
    path, saved = part / PIXELS, time.monotonic()
    try:
        with open(path, "r+b") as file, counted(f"decoding {cfg.name}", len(sources), "images") as update:
            for lost in pool.map(_decode_into, repeat(path), repeat(cfg), starts, chunks):
                state["skipped"] += lost
                state["done"] = min(state["done"] + CHUNK, len(sources))
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    os.fsync(file.fileno())  # or a power cut could lose pixels that the state counts
                    _save(part, state)
                    saved = time.monotonic()
                update(state["done"], "")
            if state["skipped"]:
                _save(part, {"done": 0, "skipped": []})  # killed from here on, it starts all over
                _close_gaps(path, set(state["skipped"]))
            os.fsync(file.fileno())
    finally:
        pool.shutdown(cancel_futures=True)


def _save(folder: Path, state: dict[str, Any]) -> None:
    files.write(folder / "state.json", json.dumps(state))


def _decode_into(path: Path, cfg: DataConfig, start: int, sources: Sequence[Source]) -> list[int]:
    """Write the images from position `start` on; returns the positions of those left out."""
    pixels = np.load(path, mmap_mode="r")
    frame = pixels.shape[1:]
    rows, lost = np.zeros((len(sources), *frame), np.uint8), []
    for i, source in enumerate(sources):
        try:
            image = decode(source, cfg.size)
        except DataError:
            if cfg.corrupt == "refuse":
                raise
            lost.append(start + i)
            continue
        if image.shape != frame:
            sizes = " and not ".join(f"{w} x {h}" for h, w, _ in (image.shape, frame))
            raise DataError(f"{source} is {sizes} pixels: set data.size to make all alike")
        rows[i] = image
    with open(path, "r+b") as file:  # written, not mapped: on a full disk that is an error, not a signal
        file.seek(pixels.offset + start * math.prod(frame))
        file.write(rows.data)
    return lost


def _close_gaps(path: Path, gaps: set[int]) -> None:
    """Move the rows that are not `gaps` forward, in order."""
    pixels = np.load(path, mmap_mode="r+")
    for place, kept in enumerate(i for i in range(len(pixels)) if i not in gaps):
        if place != kept:
            pixels[place] = pixels[kept]
    pixels.flush()
