"""Small runs, composed as on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bnrepro.config import Config
from bnrepro.config.compose import single
from bnrepro.progress import Progress

SMALL = (
    *(
        "model.width=8",
        "data.batch_size=20",
        "train.steps=40",
        "eval.every=10",
        "seeds=2",
        "data.examples=400",
    ),
    *("train.engine=eager", "train.workers=1", "train.checkpoint_seconds=0"),
)


@pytest.fixture
def small() -> tuple[str, ...]:
    """The settings of a run of half a second."""
    return SMALL


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """config("optim.lr=1", place="a"): a small run below tmp_path/a."""
    return lambda *overrides, place="": single([*SMALL, f"output={tmp_path / place}", *overrides])


@pytest.fixture
def quiet() -> Progress:
    return lambda done, remark: None


@pytest.fixture
def stop_at() -> Callable[..., Progress]:
    """A progress that ends the training at a step, as Ctrl-C or another exception does."""

    def make(step: int, how: type[BaseException] = KeyboardInterrupt) -> Progress:
        def progress(done: int, remark: str) -> None:
            if done == step:
                raise how

        return progress

    return make
