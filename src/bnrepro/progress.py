"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from bnrepro.machine import one_of_many

Progress: TypeAlias = Callable[[int, str], None]  # (steps done, a line worth saying or "")
SECONDS_BETWEEN_LINES = 15.0


def progress(label: str, steps: int, replicas: int) -> AbstractContextManager[Progress]:
    """The callback of a training, with steps/s. One of several processes gets lines, not a bar."""
    first, begun = -1, 0.0

    def speed(done: int) -> str:
        nonlocal first, begun
        if first < 0 or done <= first:
            first, begun = done, time.perf_counter()
            return ""
        rate = (done - first) / (time.perf_counter() - begun)
        return f"{rate:,.0f} steps/s x {replicas} seed{'s' * (replicas > 1)}"

    return _shown(label, steps, "step {:,} of {:,}", speed, "preparing the training step")


def counted(label: str, total: int, unit: str) -> AbstractContextManager[Progress]:
    """The callback of a job on `total` pieces, with the seconds it has taken."""
    begun = time.perf_counter()
    return _shown(
        label, total, f"{{:,}} of {{:,}} {unit}", lambda done: f"{time.perf_counter() - begun:.0f} s"
    )


@contextmanager
def _shown(
    label: str, total: int, count: str, speed: Callable[[int], str], at_first: str = ""
) -> Iterator[Progress]:
    if one_of_many() or not sys.stdout.isatty():
        said = time.perf_counter()

        def line(done: int, remark: str) -> None:
            nonlocal said
            if remark:
                print(f"{label}: {remark}", flush=True)
            if done == total or time.perf_counter() - said >= SECONDS_BETWEEN_LINES:
                said = time.perf_counter()
                words = (f"{label}: {count.format(done, total)}", speed(done))
                print(", ".join(filter(None, words)), flush=True)

        yield line
        return

    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bar(*columns, TextColumn("{task.fields[speed]}"), TimeRemainingColumn()) as bar:
        task = bar.add_task(label, total=total, speed=at_first)

        def move(done: int, remark: str) -> None:
            if remark:
                bar.console.print(f"{label}: {remark}")
            bar.update(task, completed=done, speed=speed(done))

        yield move
