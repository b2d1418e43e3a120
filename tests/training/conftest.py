"""The nets that tests of training share: small ones, on 5,000 digits."""

from __future__ import annotations

from typing import Any

import pytest

from bnrepro.config import Config, DataConfig, EvalConfig, MLPConfig, OptimConfig, TrainConfig
from bnrepro.data import Dataset, load
from bnrepro.training.state import Replica, State


class Nets:
    """Configurations and states of 16-unit nets with two hidden layers, for mini-batches of 32."""

    steps = 50

    def __init__(self) -> None:
        self.data: Dataset = load(DataConfig(batch_size=32, examples=1600))

    def config(self, seeds: Any = (0, 3), optim: dict | None = None, train: dict | None = None, **model: Any):
        return Config(
            seeds=list(seeds),
            data=DataConfig(batch_size=32, examples=1600),
            model=MLPConfig(**({"width": 16, "depth": 2} | model)),
            optim=OptimConfig(**({"lr": 0.3} | (optim or {}))),
            train=TrainConfig(**({"steps": self.steps, "device": "cpu", "workers": 1} | (train or {}))),
            eval=EvalConfig(every=25),
        )

    def state(self, *cfgs: Config) -> State:
        return State([Replica(cfg, seed) for cfg in cfgs for seed in cfg.seeds], self.data)


@pytest.fixture(scope="session")
def nets() -> Nets:
    return Nets()
