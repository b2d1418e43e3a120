"""Schedules, dropout masks, the typical unit."""

from dataclasses import replace

import pytest
import torch

from bnrepro.config import Config, DataConfig, OptimConfig, TrainConfig
from bnrepro.measure.probe import distributions, histogram, typical_unit
from bnrepro.rng import keep_mask
from bnrepro.training.optim import learning_rates


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [2, 2, 2, 2]), ("exponential", [2, 2 * 0.5**0.5, 1, 0.5**0.5]), ("step", [2, 2, 1, 1])],
)
def test_learning_rates_follow_their_schedule(schedule, expected):
    cfg = Config(optim=OptimConfig(lr=0.4, lr_scale=5, schedule=schedule, decay=0.5, decay_steps=2))
    torch.testing.assert_close(learning_rates(cfg, 0, 4), torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(learning_rates(cfg, 2, 4), torch.tensor(expected[2:], dtype=torch.float32))


@pytest.mark.parametrize("schedule", ["exponential", "step"])
def test_a_rate_that_decays_6_times_faster_is_after_one_step_where_the_other_is_after_six(schedule):
    optim = OptimConfig(schedule=schedule, decay=0.5, decay_steps=12)
    slow, fast = (learning_rates(Config(optim=replace(optim, decay_times=k)), 0, 25) for k in (1, 6))
    torch.testing.assert_close(fast[:5], slow[::6])


def test_by_the_linear_rule_the_rate_is_that_of_60_examples_times_the_share_of_them():
    cfg = Config(data=DataConfig(batch_size=15), optim=OptimConfig(lr=0.4, batch_rule="linear"))
    assert learning_rates(cfg, 0, 2).tolist() == pytest.approx([0.1, 0.1])


def test_a_decay_over_the_whole_run_follows_the_run_when_it_is_made_longer():
    cfg = Config(optim=OptimConfig(schedule="step", decay_steps=0), train=TrainConfig(steps=10))
    longer = replace(cfg, train=replace(cfg.train, steps=40))
    assert (cfg.decay_steps, longer.decay_steps) == (10, 40)
    assert learning_rates(longer, 39, 41).tolist() == pytest.approx([0.1, 0.01])


def test_dropout_keeps_the_stated_share_independently_of_step_layer_and_seed():
    masks = [
        keep_mask(torch.tensor([s, t]), layer, (200, 100), 0.3)
        for s in (0, 1)
        for t in (0, 1)
        for layer in (0, 1)
    ]
    flat = torch.stack(masks).flatten(1)
    assert (flat.mean(1) - 0.7).abs().max() < 4 * (0.21 / 20_000) ** 0.5
    correlations = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlations.abs().max() < 5 / 20_000**0.5
    columns, rows = masks[0].mean(0), masks[0].mean(1)
    assert (columns - 0.7).abs().max() < 5 * (0.21 / 200) ** 0.5 and (rows - 0.7).abs().max() < 5 * (
        0.21 / 100
    ) ** 0.5


def test_the_typical_unit_has_the_median_initial_norm():
    weight = torch.diag(torch.tensor([5.0, 1.0, 3.0, 4.0, 2.0]))
    assert typical_unit(weight) == 2
    assert typical_unit(weight[:4]) == 2  # of norms 5, 1, 3, 4 the lower median


def test_percentiles_are_of_one_unit_and_of_all():
    u = torch.arange(303.0).view(101, 3)
    (values,) = distributions("hidden3", u[None], [1])
    assert values["probe/hidden3/typical/p50"] == 151 and values["probe/hidden3/all/p50"] == 151
    assert values["probe/hidden3/typical/p15"] == 46


def test_a_histogram_counts_everything_also_what_lies_outside():
    counts, edges = histogram(torch.tensor([-100.0, -7.9, 0.0, 7.9, 100.0]))
    assert sum(counts) == 5 and len(edges) == len(counts) + 1 and counts[0] == 2 and counts[-1] == 2
