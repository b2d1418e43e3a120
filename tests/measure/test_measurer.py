"""All that is measured of a run: the same by every engine, and nothing is changed by it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bnrepro.config import (
    Config,
    DataConfig,
    EvalConfig,
    InceptionConfig,
    MLPConfig,
    OptimConfig,
    RecordConfig,
    TrainConfig,
)
from bnrepro.data import Dataset, load
from bnrepro.measure.evaluate import evaluate, with_population_statistics
from bnrepro.measure.evaluators import Measurer, Measures
from bnrepro.measure.metrics import declared
from bnrepro.models import build
from bnrepro.training.engines.cuda import Cuda
from bnrepro.training.engines.eager import Eager
from bnrepro.training.engines.xla import Xla
from bnrepro.training.state import Replica, State

STEPS = 10
# Shares are counts: an example whose two best classes are within rounding may count otherwise.
SHARE = 2.5 / 320
# A percentile near zero is a difference of terms of order one, each with a rounding of 1e-7; and so is a cosine
# or a small covariate shift.
NEAR = {"rel": 1e-3, "abs": 2e-5}
NETS = {
    "bn": {"norm": "bn", "dropout": 0.3, "noise": 1.0},
    "after": {"norm": "bn", "placement": "after", "activation": "tanh"},
    "renorm": {"norm": "renorm"},
    "group": {"norm": "group", "width": 15, "activation": "tanh"},  # 5 groups of 3
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    data = load(DataConfig(batch_size=32, examples=320))
    return replace(data, eval_images=data.eval_images[::3], eval_labels=data.eval_labels[::3])


def config(measure_noise: bool = False, **model) -> Config:
    return Config(
        seeds=[0, 3],
        data=DataConfig(batch_size=32, examples=320),
        model=MLPConfig(**({"width": 12, "depth": 2} | model)),
        optim=OptimConfig(lr=0.5),
        train=TrainConfig(steps=STEPS, device="cpu"),
        eval=EvalConfig(probe=True, train=True, inference=True, noise=measure_noise, diagnose=True),
        record=RecordConfig(wandb="offline"),
    )


def trained(cfg: Config, data: Dataset) -> tuple[State, torch.Tensor]:
    state = State([Replica(cfg, seed) for seed in cfg.seeds], data)
    losses = Eager(state, data).advance(state, 0, STEPS)
    state.step = STEPS
    return state, losses


def measured(engine, cfg: Config, data: Dataset) -> list[Measures]:
    state, losses = trained(cfg, data)
    made = engine(state, data)
    found = Measurer(made, state, data)(state, losses)
    made.close()
    return found


def assert_alike(found: list[Measures], expected: list[Measures]) -> None:
    for (values, histograms), (others, other_histograms) in zip(found, expected, strict=True):
        assert list(values) == list(others)
        for name, value in values.items():
            share = "accuracy" in name or name.startswith("units/")
            near = {"abs": SHARE} if share else NEAR
            assert value == pytest.approx(others[name], **near), name
        for name, (counts, edges) in histograms.items():
            moved = [abs(a - b) for a, b in zip(counts, other_histograms[name][0], strict=True)]
            assert sum(moved) <= 4 and edges == other_histograms[name][1]


@pytest.mark.parametrize("case", NETS)
def test_every_engine_measures_the_same(case: str, data: Dataset, forks: None) -> None:
    cfg = config(**NETS[case])
    cfg.eval.diagnose = case in ("bn", "group")  # most of the time is compiling it
    expected = measured(Eager, cfg, data)
    for values, histograms in expected:
        families = {name.split("/")[0] for name in values}
        diagnosed = {"ics", "ics_next", "landscape", "gradient", "jacobian", "jacobian_linear", "units"}
        assert families == {"train", "test", "probe", *(diagnosed if cfg.eval.diagnose else ())}
        assert all(declared(name) and math.isfinite(value) for name, value in values.items())
        assert ("test/loss_batch" in values) == (case != "group") and histograms
    assert measured(lambda state, data: Eager(state, data, 2), cfg, data) == expected
    assert_alike(measured(lambda state, data: Xla(state, data, 2), cfg, data), expected)


@pytest.mark.parametrize("case", ["bn", "group"])
def test_stacked_replicas_are_measured_as_one_by_one(case: str, data: Dataset) -> None:
    cfg = config(**NETS[case])
    stacked = measured(lambda state, data: Cuda(state, data, compiled=False), cfg, data)
    assert_alike(stacked, measured(Eager, cfg, data))


def test_the_noise_of_mini_batches_is_the_same_by_every_engine(
    data: Dataset, forks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnrepro.measure.probe.NOISE_BATCHES", (8, 60))
    monkeypatch.setattr("bnrepro.measure.probe.NOISE_COMPANIONS", 10)
    cfg = config(measure_noise=True, norm="bn")
    cfg.eval.diagnose = cfg.eval.inference = False
    expected = measured(Eager, cfg, data)
    assert {"noise/kurtosis", "noise/mu/m8", "noise/var/m60", "noise/logit/m60"} <= set(expected[0].values)
    assert measured(lambda state, data: Eager(state, data, 2), cfg, data) == expected
    for engine in (Xla, lambda state, data: Cuda(state, data, compiled=False)):
        assert_alike(measured(engine, cfg, data), expected)


@pytest.mark.parametrize("engine", [Eager, Xla, lambda state, data: Eager(state, data, 2)])
def test_measuring_changes_nothing(engine, data: Dataset, forks: None) -> None:
    state, losses = trained(config(norm="bn"), data)
    made = engine(state, data)
    before = {k: v.clone() for k, v in (state.params | state.buffers).items()}
    measurer = Measurer(made, state, data)
    first, second = measurer(state, losses), measurer(state, losses)
    made.close()
    assert first == second
    assert all(torch.equal(v, before[k]) for k, v in (state.params | state.buffers).items())
    assert {"test/accuracy", "test/accuracy_population", "probe/hidden2/typical/p50"} <= set(first[0].values)


def test_every_unit_is_probed_at_every_tenth_evaluation_and_the_typical_one_is_among_them(
    data: Dataset,
) -> None:
    cfg = config(norm="bn")
    cfg.eval.diagnose = cfg.eval.inference = False
    cfg.eval.units = True
    state, losses = trained(cfg, data)
    measurer = Measurer(Eager(state, data), state, data)
    state.step = 10 * cfg.every
    values = measurer(state, losses)[0].values
    singles = [name for name in values if "/unit" in name]
    typical = measurer.units["hidden2"][0]
    assert len(singles) == 3 * cfg.model.width
    assert values[f"probe/hidden2/unit{typical}/p50"] == values["probe/hidden2/typical/p50"]
    state.step += cfg.every
    assert not any("/unit" in name for name in measurer(state, losses)[0].values)


def test_population_statistics_are_taken_at_the_last_step_only_unless_inference_asks(data: Dataset) -> None:
    cfg = config(norm="bn")
    cfg.eval.diagnose = cfg.eval.inference = cfg.eval.probe = False
    state, losses = trained(cfg, data)
    measurer, names = Measurer(Eager(state, data), state, data), []
    for step in (STEPS, STEPS - 1):
        state.step = step
        names.append(set(measurer(state, losses)[0].values))
    assert names[0] - names[1] == {"test/loss_population", "test/accuracy_population"}


def test_population_statistics_are_of_images_varied_as_in_training_and_of_plain_ones_too() -> None:
    cfg = config()
    cfg.data = DataConfig(
        name="shapes", num_classes=2, size=32, batch_size=16, crop=4, flip=True, distort=0.4
    )
    cfg.model = InceptionConfig(multiplier=0.1, norm="bn")
    cfg.eval = EvalConfig(probe=False, population_curve=True, population=2)
    data = load(cfg.data)
    data = replace(data, eval_images=data.eval_images[:50], eval_labels=data.eval_labels[:50])
    state = State([Replica(cfg, seed) for seed in cfg.seeds], data)
    engine = Eager(state, data)
    name = "conv1.norm.running_mean"
    with_variation, plain = (
        with_population_statistics(engine, state, data, 16, plain).buffers[name] for plain in (False, True)
    )
    conv = build(cfg.model, data.shape, data.classes).reset(3).conv1.conv
    index, _, keys = engine.batches(1, 0, 2)
    means = torch.stack([conv(x).mean((0, 2, 3)) for x in data.batches(index, keys)]).mean(0)
    torch.testing.assert_close(with_variation[1], means, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain[1], means, atol=1e-4)
    measurer, names = Measurer(engine, state, data), []
    for step in (STEPS, STEPS - 1):
        state.step = step
        names.append(set(measurer(state, torch.zeros(2, 1))[0].values))
    assert "test/accuracy_population" in names[1]  # eval.population_curve
    assert {name for name in names[0] - names[1] if "accuracy" in name} == {"test/accuracy_population_plain"}
    assert all(declared(name) for name in names[0])


def test_with_a_holdout_the_test_set_is_measured_at_the_last_step_too() -> None:
    cfg = config(norm="bn")
    cfg.data = DataConfig(batch_size=32, holdout=500)
    cfg.eval = EvalConfig(probe=False, test=True)
    data, whole = load(cfg.data), load(DataConfig())
    state, losses = trained(cfg, data)
    engine = Eager(state, data)
    measurer = Measurer(engine, state, data)
    values = measurer(state, losses)[0].values
    (expected, _) = evaluate(Eager(state, whole), state, whole)
    assert values["test/accuracy"] == expected["test/accuracy"]
    assert values["val/accuracy"] != expected["test/accuracy"]
    population = with_population_statistics(engine, state, data, 32)
    (exact, _) = evaluate(Eager(state, whole), population, whole, "_population")
    assert values["test/accuracy_population"] == exact["test/accuracy_population"]
    state.step = STEPS - 1
    assert "test/accuracy" not in measurer(state, losses)[0].values
