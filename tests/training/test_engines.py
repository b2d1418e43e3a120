"""Engines: every one of them equals S nets trained alone with torch's own optimizer."""

import importlib.util
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from bnrepro import machine
from bnrepro.config import NORMS
from bnrepro.data import batch_indices
from bnrepro.measure.evaluators import Measurer
from bnrepro.models import MLP
from bnrepro.training.engines import build_engine, engine_of
from bnrepro.training.engines.cuda import Cuda
from bnrepro.training.engines.eager import Eager
from bnrepro.training.engines.xla import Xla

# The same real numbers, summed in another order: parameters of order 0.1 to 1 differ by some 1e-7 a step. Only
# where a ReLU's input is within rounding of zero may one more unit be on; so noise, which brings many such inputs,
# is paired with tanh.
CLOSE = {"rtol": 1e-4, "atol": 2e-6}
FULL = {"momentum": 0.5, "weight_decay": 1e-3}
CASES = {
    **{norm: {"norm": norm, "optim": FULL} for norm in NORMS},
    "group": {"norm": "group", "width": 49, "optim": FULL},  # 7 units each: of 2 the sign is all that is left
    "dropout": {"norm": "bn", "dropout": 0.3, "optim": FULL},
    "noise": {"norm": "bn", "noise": 1.0, "activation": "tanh"},
    "after": {"norm": "bn", "placement": "after", "affine": False},
    "relu": {"norm": "bn", "activation": "relu", "optim": FULL},
    "plain": {"activation": "relu"},
    "exponential": {"optim": {"schedule": "exponential", "decay_steps": 20}},
    "linear": {"norm": "bn", "optim": {"batch_rule": "linear", "momentum": 0.9}},
}
MAKE = {
    "eager": lambda state, data: Eager(state, data),
    "two processes": lambda state, data: Eager(state, data, workers=2),
    "xla": lambda state, data: Xla(state, data, workers=2),
    "cuda": lambda state, data: Cuda(state, data, compiled=False),
}


def trained(nets, engine, cfg):
    state = nets.state(cfg)
    made = MAKE[engine](state, nets.data)
    losses = made.advance(state, 0, nets.steps)
    made.close()
    return state, losses


_eager: dict = {}


def by_eager(nets, case):
    if case not in _eager:
        _eager[case] = trained(nets, "eager", nets.config(**CASES[case]))
    return _eager[case]


def alone(cfg, data, seed):
    """The reference: one plain module, autograd, torch.optim.SGD and its scheduler. Its state and its losses."""
    optim, model = cfg.optim, MLP(cfg.model).reset(seed).train()
    groups: list[dict] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim == 1]},  # biases, gamma and beta do not decay
    ]
    lr = optim.lr * (32 / 60 if optim.batch_rule == "linear" else 1)
    optimizer = torch.optim.SGD(groups, lr, optim.momentum)
    gamma = optim.decay ** (1 / optim.decay_steps) if optim.schedule == "exponential" else 1.0
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    losses = []
    order = batch_indices(seed, data.examples, cfg.data.batch_size, 0, cfg.steps)
    for t, index in enumerate(data.seen(seed, order)):
        logits, _ = model(data.images[index].float() * data.scale, torch.tensor([seed, t]))
        loss = cross_entropy(logits, data.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return model.state_dict(), torch.stack(losses)


def assert_close(found, expected):
    """States and losses."""
    for part in ("params", "buffers", "velocity"):
        torch.testing.assert_close(getattr(found[0], part), getattr(expected[0], part), **CLOSE)
    torch.testing.assert_close(found[1], expected[1], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_eager_engine_equals_torchs_own_loop(case, nets):
    state, losses = by_eager(nets, case)
    for s, (cfg, seed) in enumerate(state.replicas):
        expected, curve = alone(cfg, nets.data, seed)
        mine = {k: v[s] for k, v in (state.params | state.buffers).items()}
        torch.testing.assert_close(mine, expected, **CLOSE)
        torch.testing.assert_close(losses[s], curve, **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_xla_equals_eager_in_parameters_statistics_and_losses(case, nets):
    assert_close(trained(nets, "xla", nets.config(**CASES[case])), by_eager(nets, case))


@pytest.mark.parametrize("case", ["none", "torch", "ghost", "weight", "dropout", "after", "exponential"])
def test_stacked_replicas_equal_eager_ones(case, nets):
    assert_close(trained(nets, "cuda", nets.config(**CASES[case])), by_eager(nets, case))


@pytest.mark.parametrize("case", ["none", "dropout"])
def test_forked_replicas_have_the_bits_of_those_of_one_process(case, nets, forks):
    found, expected = trained(nets, "two processes", nets.config(**CASES[case])), by_eager(nets, case)
    assert torch.equal(found[1], expected[1])
    for part in ("params", "buffers", "velocity"):
        for name, value in getattr(expected[0], part).items():
            assert torch.equal(getattr(found[0], part)[name], value)


@pytest.mark.parametrize("engine", MAKE)
def test_rates_initial_scales_and_dropout_rates_of_one_pack_are_those_of_solo_runs(engine, nets, forks):
    cfgs = [nets.config(seeds=[3], norm="bn", dropout=0.3, optim=FULL) for _ in range(4)]
    cfgs[1].optim.lr, cfgs[2].model.init_std, cfgs[3].model.dropout = 0.05, 0.5, 0.6
    state = nets.state(*cfgs)
    made = MAKE[engine](state, nets.data)
    losses = made.advance(state, 0, nets.steps)
    made.close()
    for run, cfg in enumerate(cfgs):
        solo, curve = trained(nets, "eager" if engine == "cuda" else engine, cfg)
        rows, same = slice(run, run + 1), {"rtol": 0, "atol": 0} if engine != "cuda" else CLOSE
        torch.testing.assert_close(losses[rows], curve, **same)
        for name, value in (solo.params | solo.buffers).items():
            torch.testing.assert_close((state.params | state.buffers)[name][rows], value, **same)


@pytest.mark.parametrize("engine", MAKE)
def test_a_replica_that_diverges_is_noted_and_leaves_the_others_untouched(engine, nets, forks):
    cfg = nets.config(seeds=[0, 1, 2])
    states, results = [nets.state(cfg), nets.state(cfg)], []
    states[1].params["classifier.weight"][1] = float("inf")
    engines = [MAKE[engine](state, nets.data) for state in states]
    measurers = [Measurer(made, state, nets.data) for made, state in zip(engines, states, strict=True)]
    for made, state, measurer in zip(engines, states, measurers, strict=True):
        losses = made.advance(state, 0, 20)
        assert bool(losses[1].isnan().all()) == (state is states[1])
        state.step = 20
        results.append([values for values, _ in measurer(state, losses)])
    healthy, hurt = states
    assert hurt.diverged_at.tolist() == [-1, 0, -1]
    assert results[1][1]["diverged_at"] == 0.0
    assert math.isnan(results[1][1]["test/accuracy"]) and 0 <= results[0][0]["test/accuracy"] <= 1
    assert results[1][0] == results[0][0] and results[1][2] == results[0][2]
    assert all(torch.equal(v[::2], hurt.params[k][::2]) for k, v in healthy.params.items())
    before = {k: v.clone() for k, v in hurt.params.items()}
    losses = engines[1].advance(hurt, 20, 30)
    hurt.step = 30
    assert "diverged_at" not in measurers[1](hurt, losses)[1].values  # said once
    assert losses[1].isnan().all() and losses[::2].isfinite().all()
    for name, value in before.items():  # it is not stepped any more
        torch.testing.assert_close(hurt.params[name][1], value[1], rtol=0, atol=0, equal_nan=True)
    for made in engines:
        made.close()


@pytest.mark.parametrize("engine", MAKE)
def test_a_replica_whose_loss_alone_overflowed_keeps_its_weights(engine, nets, forks):
    state = nets.state(nets.config(seeds=[0, 1]))
    made = MAKE[engine](state, nets.data)
    state.diverged_at[0] = 0
    before = {k: v.clone() for k, v in state.params.items()}
    losses = made.advance(state, 0, 3)
    made.close()
    assert losses[0].isnan().all() and losses[1].isfinite().all()
    assert all(torch.equal(state.params[k][0], v[0]) for k, v in before.items())
    assert not torch.equal(state.params["classifier.weight"][1], before["classifier.weight"][1])


def test_arms_of_one_seed_start_from_the_same_weights_and_watch_the_same_unit(nets):
    baseline, bn = (nets.state(nets.config(norm=norm)) for norm in ("none", "bn"))
    for name in ("hidden.0.weight", "hidden.1.weight", "classifier.weight"):
        assert torch.equal(baseline.params[name], bn.params[name])
    watched = [Measurer(Eager(state, nets.data), state, nets.data).units for state in (baseline, bn)]
    assert watched[0] == watched[1]
    assert not torch.equal(bn.params["hidden.0.weight"][0], bn.params["hidden.0.weight"][1])


def test_without_jax_steps_are_eager_and_it_is_said(nets, monkeypatch):
    cfg = nets.config()
    assert engine_of(cfg) == ("xla", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    assert engine_of(cfg)[0] == "eager"
    engine = build_engine(nets.state(cfg), nets.data)
    assert engine.name == "eager" and "pip install 'bnrepro[train]'" in engine.note


def test_the_engine_follows_from_the_settings_and_not_from_what_trains_beside(nets, monkeypatch):
    cfg = nets.config()
    others = [
        nets.config(seeds=range(40)),
        replace(cfg, train=replace(cfg.train, steps=7, workers=2)),
        nets.config(norm="ghost", dropout=0.2),
    ]
    assert {engine_of(each) for each in (cfg, *others)} == {("xla", "")}
    monkeypatch.setattr(machine, "one_of_many", lambda: True)
    monkeypatch.setattr(machine, "cores", lambda share=True: 64)
    assert engine_of(cfg) == ("xla", "")
    for asked in ("eager", "xla"):
        assert engine_of(replace(cfg, train=replace(cfg.train, engine=asked))) == (asked, "")
    assert engine_of(replace(cfg, train=replace(cfg.train, autocast="bf16")))[0] == "eager"
