"""Images decoded once into a file of raw uint8 pixels, which is mapped into memory: no process copies it.

A finished cache is a folder <data>-<key>; one being built ends in ".part", and is taken up where it was left.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnrepro import files
from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError
from bnrepro.data.decode import decode, progress, warn_once, workers
from bnrepro.data.source import Source, forget_archives

FORMAT = 1  # a change of how images are decoded makes older caches others
CHUNK = 128  # images a task
SECONDS_BETWEEN_SAVES = 5.0


def cached(cfg: DataConfig, sources: Sequence[Source]) -> tuple[Tensor, list[int]]:
    """Pixels (n, H, W, 3) uint8, mapped, and the positions of sources left out (data.corrupt=skip).

    Waits for another process that is building the same cache. Raises DataError; nothing is left then.
    """
    place = Path(cfg.cache or os.environ.get("BNREPRO_CACHE") or "~/.cache/bnrepro").expanduser()
    folder = place / f"{cfg.name}-{_key(cfg, sources)}"
    found = _open(folder)
    if found is None:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with _lock(folder):
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


def _open(folder: Path) -> tuple[Tensor, list[int]] | None:
    """None where there is no cache, or a damaged one."""
    try:
        state = json.loads((folder / "state.json").read_text())
        shape = [state["done"] - len(state["skipped"]), *state["frame"]]
        pixels, count = folder / "pixels.u8", math.prod(shape)
        if pixels.stat().st_size != count:
            return None
        # shared=False maps copy on write: forked processes share the pages, none can alter the file
        mapped = torch.from_file(str(pixels), shared=False, size=count, dtype=torch.uint8)
        return mapped.view(shape), state["skipped"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """The kernel lets go when the process ends, however it ends; so the lock file may stay."""
    with open(folder.with_name(folder.name + ".lock"), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that is decoding into {folder}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(cfg: DataConfig, sources: Sequence[Source], folder: Path) -> None:
    if folder.exists():
        print(f"the cache {folder} is truncated or damaged: decoding the images again", flush=True)
        shutil.rmtree(folder)
    part = folder.with_name(folder.name + ".part")
    try:
        part.mkdir(exist_ok=True)
        frame = _frame(cfg, sources)
        state = _resumed(part, frame, len(sources)) or {"done": 0, "skipped": [], "frame": frame}
        needed = (len(sources) - state["done"]) * math.prod(frame)
        free = shutil.disk_usage(part).free
        if needed > free:
            raise DataError(
                f"decoded images take {needed / 1e9:.2f} GB, {folder.parent} has {free / 1e9:.2f} GB free: "
                "set data.cache to another disk, or data.decode=stream"
            )
        _fill(cfg, sources, part, state)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes was killed (no memory left?); start again to go on"
        ) from error
    except (DataError, OSError):
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.rename(folder)


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


def _resumed(part: Path, frame: list[int], count: int) -> dict[str, Any] | None:
    try:
        state = json.loads((part / "state.json").read_text())
        whole = (part / "pixels.u8").stat().st_size == count * math.prod(frame)
        return state if whole and state["frame"] == frame else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fill(cfg: DataConfig, sources: Sequence[Source], part: Path, state: dict[str, Any]) -> None:
    """Decode what is missing, on all cores, and close the gaps that images left out have left."""
    frame, skipped, path = tuple(state["frame"]), state["skipped"], part / "pixels.u8"
    starts = range(state["done"], len(sources), CHUNK)
    with open(path, "ab") as file, workers() as pool, progress(cfg.name, len(sources)) as update:
        file.truncate(len(sources) * math.prod(frame))
        saved = time.monotonic()
        chunks = (sources[start : start + CHUNK] for start in starts)
        for lost in pool.map(_decode_into, repeat(path), repeat(cfg), repeat(frame), starts, chunks):
            skipped += lost
            state["done"] = min(state["done"] + CHUNK, len(sources))
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                os.fdatasync(file.fileno())  # or a power cut could lose pixels that the state counts
                _save(part, state)
                saved = time.monotonic()
            update(state["done"])
        if skipped:
            (part / "state.json").unlink(missing_ok=True)  # killed from here on, it starts from the beginning
            _close_gaps(path, skipped, len(sources), math.prod(frame))
        os.fsync(file.fileno())
    _save(part, state)


def _save(part: Path, state: dict[str, Any]) -> None:
    files.write(part / "state.json", json.dumps(state))


def _decode_into(
    path: Path, cfg: DataConfig, frame: tuple[int, ...], start: int, sources: Sequence[Source]
) -> list[int]:
    """Write the images from position `start` on; returns the positions of those left out."""
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
        file.seek(start * math.prod(frame))
        file.write(rows.data)
    return lost


def _close_gaps(path: Path, gaps: list[int], count: int, row: int) -> None:
    """Remove the rows `gaps` (ascending) from a file of `count` rows of `row` bytes, in place."""
    end = gaps[0]
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for gap, following in pairwise([*gaps, count]):
            between = following - gap - 1
            memory.move(end * row, (gap + 1) * row, between * row)
            end += between
    os.truncate(path, end * row)
