"""Image files -> pixels, and the processes that do it on all cores."""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from bnrepro.data.dataset import DataError
from bnrepro.data.source import Source

SECONDS_BETWEEN_LINES = 15.0
warn_once = functools.cache(logging.getLogger(__name__).warning)  # a run asks for its data several times


def cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def decode(source: Source, size: int) -> np.ndarray:
    """RGB (H, W, 3) uint8; with `size` the central square, brought to size x size. Else as large as it is.

    Raises DataError, naming the file, if it cannot be read or decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source.read())) as image:
            if image.mode.startswith(("I", "F")):  # PIL would clip them to white
                raise ValueError("more than 8 bits a channel")
            if size:  # a JPEG's decoder halves it for less than resizing it would cost
                image.draft("RGB", (2 * size, 2 * size))
            rgb = image.convert("RGB")
        return np.asarray(ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC) if size else rgb)
    except MemoryError:
        raise
    except Exception as error:  # each format's decoder has its own kinds of errors
        reason = str(error).partition(" <")[0] or type(error).__name__
        raise DataError(
            f"{source} cannot be decoded ({reason}); replace it, or leave it out with data.corrupt=skip"
        ) from error


@contextmanager
def workers() -> Iterator[Executor]:
    """A process a core; threads where fork is unsafe.

    Threads gain little even where there is fork: opening a small JPEG takes PIL as long as decoding it, and
    only the decoding releases the GIL.
    """
    if sys.platform == "linux":
        pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("fork"), _enter)
    else:
        pool = ThreadPoolExecutor(cores())
    try:
        pool.submit(os.getpid).result()  # all processes are forked here, before a progress bar has its thread
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _enter() -> None:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a bar's stand-ins may be locked for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan outlives a killed parent


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A callback (images done): a bar on a terminal, elsewhere a line now and then."""
    label = f"decoding {name}"
    if sys.stdout.isatty() and multiprocessing.parent_process() is None:
        from rich.progress import Progress

        with Progress() as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    begun = said = time.monotonic()

    def update(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said >= SECONDS_BETWEEN_LINES:
            said = now
            print(f"{label}: {done:,} of {total:,} images, {now - begun:.0f} s", flush=True)

    yield update
