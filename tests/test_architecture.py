"""The worked examples of docs/architecture.md and CONTRIBUTING.md do what the pages say."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from bnrepro import models
from bnrepro.analysis import statistics
from bnrepro.analysis.claims import rule
from bnrepro.analysis.frame import MissingData
from bnrepro.config import Config, DataConfig, EvalConfig, MLPConfig, ModelConfig, TrainConfig, parts
from bnrepro.data import Dataset
from bnrepro.data.load import READERS
from bnrepro.measure import evaluators, metrics
from bnrepro.measure.evaluators import Evaluator, Measurer, Measures
from bnrepro.measure.metrics import Metric
from bnrepro.models import build, mlp
from bnrepro.rng import generator
from bnrepro.training.engines.base import Engine
from bnrepro.training.engines.eager import Eager
from bnrepro.training.state import Replica, State
from bnrepro.training.step import make_step

ROOT = Path(__file__).parents[1]


def example(title: str, page: str = "docs/architecture.md") -> str:
    """The code under a heading, without the lines that belong in other files."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"## {title}\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def data() -> Dataset:
    space = {"torch": torch}
    space["READERS"] = dict(READERS)
    exec(example("Add a data set"), space)
    return Dataset(*space["READERS"]["stripes"](DataConfig()), scale=1 / 255, split="test")


def config(**eval_settings) -> Config:
    return Config(
        seeds=2,
        model=MLPConfig(width=6, depth=1),
        train=TrainConfig(steps=4, engine="eager"),
        eval=EvalConfig(probe=False, **eval_settings),
    )


def test_the_example_data_set_can_be_trained_on(data: Dataset):
    assert data.images.dtype == torch.uint8 and data.flat and len(data.labels) == 100
    assert data.inputs(data.images[:1]).max() == 1


def test_the_example_model_has_what_every_model_has():
    space = {
        "ModelConfig": ModelConfig,
        "dataclass": dataclass,
        "nn": nn,
        "torch": torch,
        "generator": generator,
    }
    exec(example("Add a model"), space)
    net = space["Linear"](space["LinearConfig"](), 784, 10).reset(3)
    logits, taps = net(torch.rand(5, 784))
    assert logits.shape == (5, 10)
    assert {name: len(w) for name, w in net.probed().items()} == {
        name: u.shape[1] for name, u in taps.items()
    }
    assert torch.equal(net.classifier.weight, space["Linear"](None, 784, 10).reset(3).classifier.weight)


def test_the_example_normalization_trains(data: Dataset, monkeypatch: pytest.MonkeyPatch):
    space = {"nn": nn, "torch": torch}
    exec(example("Add a normalization"), space)
    monkeypatch.setattr(parts, "NORMS", (*parts.NORMS, "rms"))
    monkeypatch.setattr(mlp, "normalization", lambda cfg, features: space["RMSNorm"](features, cfg.eps))
    monkeypatch.setattr(models, "_skeletons", {})
    cfg = replace(config(), model=MLPConfig(width=6, depth=1, norm="rms"))
    state = State([Replica(cfg, seed) for seed in cfg.seeds], data)
    before = state.params["norms.0.gamma"].clone()
    assert Eager(state, data).advance(state, 0, 4).isfinite().all()
    assert not torch.equal(state.params["norms.0.gamma"], before)
    x = torch.randn(5, 6)
    assert space["RMSNorm"](6, 0.0)(x).square().mean(1).tolist() == pytest.approx([1.0] * 5, rel=1e-5)


def test_the_example_engine_trains_what_the_eager_one_trains(data: Dataset):
    space = {"Engine": Engine, "Eager": Eager, "make_step": make_step, "build": build, "torch": torch}
    exec(example("Add an engine"), space)
    cfg = config()
    one, other = (State([Replica(cfg, seed) for seed in cfg.seeds], data) for _ in range(2))
    losses = space["Loop"](one.replicas, data).advance(one, 0, 4)
    assert torch.equal(losses, Eager(other, data).advance(other, 0, 4))
    assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)


def test_the_example_metric_is_measured_and_declared(data: Dataset, monkeypatch: pytest.MonkeyPatch):
    declaration, rest = example("Add a metric").split("\n", 1)
    space = {"Evaluator": Evaluator, "Measures": Measures, "EVALUATORS": dict(evaluators.EVALUATORS)}
    exec(rest.rsplit("\n", 2)[0], space)
    monkeypatch.setattr(evaluators, "EVALUATORS", space["EVALUATORS"])
    monkeypatch.setattr(
        metrics, "METRICS", (*metrics.METRICS, eval(declaration.split("#")[0], {"Metric": Metric}))
    )
    cfg = config()
    state = State([Replica(cfg, seed) for seed in cfg.seeds], data)
    state.step = 0
    measured = Measurer(Eager(state, data), state, data)(state, torch.zeros(2, 0))
    norms = [sum(float(p[s].square().sum()) for p in state.params.values()) ** 0.5 for s in range(2)]
    assert [each.values["weights/norm"] for each in measured] == pytest.approx(norms)
    assert metrics.declared("weights/norm").unit == "l2"
    metrics.declared.cache_clear()


def test_the_example_claim_is_judged_and_its_error_rates_are_simulated():
    space = {**vars(rule), "statistics": statistics}
    exec(example("Add a claim", "CONTRIBUTING.md"), space)
    rows = [(v, seed, 0.9 + 0.001 * seed * (v == "bn")) for v in ("bn", "baseline") for seed in range(5)]
    level = pd.DataFrame(rows, columns=["variant", "seed", "value"]).assign(step=1000, name="test/accuracy")
    level = pd.concat(
        [level.assign(**{"model.width": 100}), level.assign(**{"model.width": 50, "value": 0.1})]
    )
    frame = level.assign(value=level["value"] + 0.05 * (level["variant"] == "bn"))
    verdict = space["EARLY"].judge({"width": frame})
    assert (verdict.verdict, verdict.n) == ("reproduced", 5) and verdict.effect == pytest.approx(0.052)
    assert space["EARLY"].judge({"width": level}).verdict == "not reproduced"
    with pytest.raises(MissingData):  # before its runs are collected
        space["EARLY"].judge({})
    rates = space["EARLY"].error_rates()
    assert max(rates.values()) <= 1 and len(rates) > 3
