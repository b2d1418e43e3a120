"""Replicas: every drive equals S nets trained alone with torch's own optimizer."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from bnrepro.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from bnrepro.data import batch_indices, load
from bnrepro.drives import Forked, Stacked, build_replicas
from bnrepro.evaluate import evaluate
from bnrepro.models import MLP
from bnrepro.replicas import Replicas

STEPS = 50
ARMS = {
    "baseline": {"norm": "none"},
    "bn": {"norm": "bn"},
    "torch's bn": {"norm": "torch"},
    "bn with dropout": {"norm": "bn", "dropout": 0.3, "activation": "relu"},
}
OTHERS = {
    "batch renormalization": {"norm": "renorm"},
    "ghost batch normalization": {"norm": "ghost"},
    "group normalization": {"norm": "group", "activation": "tanh"},
    "weight normalization": {"norm": "weight"},
    "bn after the nonlinearity, with noise": {"norm": "bn", "placement": "after", "noise": 1.0},
}


def config(drive="sequential", workers=1, compiled="off", seeds=(0, 3), model=None, momentum=0.5, decay=1e-3):
    return Config(
        seeds=list(seeds),
        data=DataConfig(batch_size=32),
        model=ModelConfig(width=16, depth=2, **(model or {})),
        optim=OptimConfig(lr=0.3, momentum=momentum, weight_decay=decay),
        train=TrainConfig(steps=STEPS, device="cpu", compile=compiled, drive=drive, workers=workers),
        eval=EvalConfig(every=25),
    )


@pytest.fixture(scope="module")
def data():
    return load(DataConfig(batch_size=32))


def alone(cfg, data, seed):
    """The reference: one plain module, autograd, torch.optim.SGD. Returns its state and both loss curves."""
    model = MLP(cfg.model).reset(seed).train()
    groups: list[dict] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": cfg.optim.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim == 1]},  # biases, gamma and beta do not decay
    ]
    optimizer = torch.optim.SGD(groups, cfg.optim.lr, cfg.optim.momentum)
    losses, tests = [], []
    for t, index in enumerate(batch_indices(seed, len(data.images), cfg.data.batch_size, 0, STEPS), start=1):
        logits, _ = model(data.images[index].float() * data.scale, torch.tensor([seed, t - 1]))
        loss = cross_entropy(logits, data.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if t % cfg.eval.every == 0:
            tests.append(evaluate(model, data)["test/loss"])
    means = torch.tensor(losses).view(-1, cfg.eval.every).mean(1).tolist()
    return model.state_dict(), means, tests


@pytest.mark.parametrize("arm", OTHERS)
def test_the_stack_of_another_normalization_equals_solo_runs(arm, data):
    cfg = config("stacked", model=OTHERS[arm])
    assert_equal_to_solo_runs(build_replicas(cfg, data), cfg, data)


@pytest.mark.parametrize("drive", ["sequential", "stacked"])
def test_runs_of_different_rates_and_scales_that_train_together_equal_solo_runs(drive, data):
    runs = [config(drive, model={"norm": "bn"}) for _ in range(3)]
    runs[1].optim.lr, runs[2].model.init_std = 0.05, 0.5
    replicas = build_replicas(runs, data)
    curve = [replicas.advance(stop) for stop in range(0, STEPS + 1, runs[0].eval.every)][1:]
    for run, cfg in enumerate(runs):
        rows = replicas.rows(run)
        for s, seed in zip(range(rows.start, rows.stop), cfg.seeds, strict=True):
            state, losses, _ = alone(cfg, data, seed)
            mine = {k: v[s] for k, v in (replicas.params | replicas.buffers).items()}
            torch.testing.assert_close(mine, state, rtol=1e-4, atol=1e-6)
            assert [point[s][0]["train/loss"] for point in curve] == pytest.approx(losses, rel=1e-5)


def test_dropout_rates_train_together(data):
    runs = [config(model={"dropout": drop}) for drop in (0.1, 0.5)]
    together = build_replicas(runs, data)
    together.advance(20, measure=False)
    for run, cfg in enumerate(runs):
        by_itself = build_replicas(cfg, data)
        by_itself.advance(20, measure=False)
        for name, value in by_itself.params.items():
            torch.testing.assert_close(together.params[name][together.rows(run)], value)


def test_runs_of_different_shapes_do_not_train_together(data):
    with pytest.raises(ValueError, match="different shapes"):
        build_replicas([config(), config(model={"norm": "bn"})], data)


def assert_equal_to_solo_runs(replicas, cfg, data):
    curve = [replicas.advance(stop) for stop in range(0, STEPS + 1, cfg.eval.every)][1:]
    for s, seed in enumerate(cfg.seeds):
        state, losses, tests = alone(cfg, data, seed)
        mine = {k: v[s] for k, v in (replicas.params | replicas.buffers).items()}
        torch.testing.assert_close(mine, state, rtol=1e-4, atol=1e-6)
        assert [point[s][0]["train/loss"] for point in curve] == pytest.approx(losses, rel=1e-5)
        assert [point[s][0]["test/loss"] for point in curve] == pytest.approx(tests, rel=1e-5)
    replicas.close()


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("drive", ["sequential", "stacked"])
def test_a_drive_equals_solo_runs_in_parameters_statistics_and_loss(arm, drive, data):
    cfg = config(drive, model=ARMS[arm])
    replicas = build_replicas(cfg, data)
    assert type(replicas) is {"sequential": Replicas, "stacked": Stacked}[drive]
    assert_equal_to_solo_runs(replicas, cfg, data)


@pytest.mark.parametrize("arm", ARMS)
def test_what_a_stack_measures_at_once_is_what_it_measures_one_by_one(arm, data):
    replicas = build_replicas(config("stacked", model=ARMS[arm]), data)
    replicas.advance(5, measure=False)
    before = {k: v.clone() for k, v in replicas.buffers.items()}
    for s, (values, _) in enumerate(replicas.advance(5)):
        one_by_one, _ = replicas.measure(s)
        assert list(values) == list(one_by_one) and values == pytest.approx(one_by_one, rel=1e-4, abs=1e-6)
        assert any(name.startswith("probe/") for name in values)
    torch.testing.assert_close(replicas.buffers, before)


@pytest.mark.parametrize("arm", ["baseline", "bn with dropout"])
def test_forked_replicas_equal_solo_runs(arm, data):
    cfg = config(workers=2, model=ARMS[arm])
    replicas = build_replicas(cfg, data)
    assert type(replicas) is Forked
    assert_equal_to_solo_runs(replicas, cfg, data)


def test_compiled_variants_in_one_process_keep_their_own_code(data):
    for arm in ("baseline", "bn with dropout", "baseline"):
        cfg = config(compiled="on", seeds=[0], model=ARMS[arm])
        assert_equal_to_solo_runs(build_replicas(cfg, data), cfg, data)


def test_the_compiled_stack_with_batch_normalization_equals_solo_runs(data):
    cfg = config("stacked", compiled="on", model=ARMS["bn"])
    assert_equal_to_solo_runs(build_replicas(cfg, data), cfg, data)


@pytest.mark.parametrize(("drive", "workers"), [("sequential", 1), ("sequential", 2), ("stacked", 1)])
def test_a_replica_that_diverges_is_noted_and_leaves_the_others_untouched(drive, workers, data):
    cfg = config(drive, workers, seeds=[0, 1, 2], momentum=0, decay=0)
    healthy, hurt = build_replicas(cfg, data), build_replicas(cfg, data)
    hurt.params["classifier.weight"][1] = float("inf")
    expected, results = healthy.advance(20), hurt.advance(20)
    assert hurt.diverged_at.tolist() == [-1, 0, -1]
    assert results[1][0]["diverged_at"] == 0.0
    assert math.isnan(results[1][0]["test/accuracy"]) and 0 <= results[0][0]["test/accuracy"] <= 1
    assert results[0] == expected[0] and results[2] == expected[2]
    assert all(torch.equal(v[::2], hurt.params[k][::2]) for k, v in healthy.params.items())
    assert "diverged_at" not in hurt.advance(30)[1][0]  # said once
    healthy.close()
    hurt.close()


def test_a_broken_compiler_means_eager_steps_and_a_reason(data, monkeypatch):
    def broken(*_):
        raise RuntimeError("g++: cannot find Python.h\nand more")

    monkeypatch.setattr("bnrepro.replicas.compiled_step", lambda *_: broken)
    replicas = build_replicas(config(compiled="on"), data)
    assert replicas.eager_because == "compiling failed (g++: cannot find Python.h): running eager steps"
    assert_equal_to_solo_runs(replicas, replicas.cfg, data)


def test_arms_of_one_seed_start_from_the_same_weights_and_watch_the_same_unit(data):
    baseline, bn = (build_replicas(config(model=ARMS[arm]), data) for arm in ("baseline", "bn"))
    for name in ("hidden.0.weight", "hidden.1.weight", "classifier.weight"):
        assert torch.equal(baseline.params[name], bn.params[name])
    assert baseline.units == bn.units
    assert not torch.equal(bn.params["hidden.0.weight"][0], bn.params["hidden.0.weight"][1])


def test_measuring_changes_nothing(data):
    replicas = build_replicas(config(model=ARMS["bn"]), data)
    replicas.advance(10)
    before = {k: v.clone() for k, v in (replicas.params | replicas.buffers).items()}
    first, second = replicas.measure(0, last=True), replicas.measure(0, last=True)
    assert first == second
    assert all(torch.equal(v, before[k]) for k, v in (replicas.params | replicas.buffers).items())
    assert {"test/accuracy", "test/accuracy_population", "probe/hidden2/typical/p50"} <= set(first[0])


def test_forked_eager_steps_work_after_something_was_compiled():
    """In a fresh process: where autograd ran before, as here, its engine is safe to fork already."""
    code = """
from test_replicas import ARMS, config, load, DataConfig
from bnrepro.drives import build_replicas
data = load(DataConfig(batch_size=32))
build_replicas(config(compiled="on", seeds=[0], model=ARMS["bn"]), data).advance(2, measure=False)
forked = build_replicas(config(workers=2), data)
forked.advance(2, measure=False)
forked.close()
print("fine")
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "fine", answer.stderr
