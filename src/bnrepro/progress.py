"""How far a run is: a bar with steps/s and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bnrepro.train import Progress

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress(label: str, steps: int, replicas: int) -> Iterator[Progress]:
    """A callback (steps done, remark) for `fit`. One of several processes gets lines, not a bar."""
    alone = multiprocessing.parent_process() is None and sys.stdout.isatty()
    shown = _bar(label, steps, replicas) if alone else _lines(label, steps, replicas)
    with shown as update:
        yield update


@contextmanager
def _bar(label: str, steps: int, replicas: int) -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Bar(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(label, total=steps, rate="preparing the training step")
        meter = _Meter(replicas)

        def update(done: int, remark: str) -> None:
            if remark:
                bar.console.print(f"{label}: {remark}")
            bar.update(task, completed=done, rate=meter.words(done))

        yield update


@contextmanager
def _lines(label: str, steps: int, replicas: int) -> Iterator[Progress]:
    meter, said = _Meter(replicas), time.perf_counter()

    def update(done: int, remark: str) -> None:
        nonlocal said
        if remark:
            print(f"{label}: {remark}", flush=True)
        if done == steps or time.perf_counter() - said >= SECONDS_BETWEEN_LINES:
            said = time.perf_counter()
            print(
                ", ".join(filter(None, (f"{label}: step {done:,} of {steps:,}", meter.words(done)))),
                flush=True,
            )

    yield update


class _Meter:
    def __init__(self, replicas: int) -> None:
        self.replicas, self.first, self.begun = replicas, None, 0.0

    def words(self, done: int) -> str:
        if self.first is None or done <= self.first:
            self.first, self.begun = done, time.perf_counter()
            return ""
        rate = (done - self.first) / (time.perf_counter() - self.begun)
        return f"{rate:,.0f} steps/s x {self.replicas} seed{'s' * (self.replicas > 1)}"
