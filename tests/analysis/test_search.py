import numpy as np
import pandas as pd
import pytest
from synthetic_imagenet import SETTINGS
from synthetic_study import _long, tidy

from bnrepro.analysis import frame as tidied
from bnrepro.analysis.effects import search as effects
from bnrepro.analysis.figures import search as figures

LEVELS = {("inception", 0.01): 0.30, ("inception", 0.02): 0.304, ("bn_x5", 0.01): 0.30, ("bn_x5", 0.02): 0.40}


def searched(levels: dict = LEVELS, seeds: int = 2, scale: float = 1.0) -> pd.DataFrame:
    """Accuracy is 0 until two thirds of 3,000 steps, then that of `levels` and a point more for each seed."""
    rows = []
    for (variant, rate), level in levels.items():
        for seed in range(seeds):
            where = {"variant": variant, "seed": seed, "optim.lr": rate, "model.init_scale": scale}
            for step in range(0, 3001, 500):
                value = level + 0.01 * seed if step > 2000 else 0.0
                values = {"val/accuracy": value}
                if variant.startswith("bn") and step:  # moving averages lag
                    values = {"val/accuracy": value / 2, "val/accuracy_population": value}
                rows += _long(where, step, values)
    settings = {**SETTINGS, "data.holdout": 2500, "data.num_classes": 50, "train.steps": 3000}
    return tidy(rows, "rates_limited", **settings)


def test_a_search_is_the_mean_of_the_evaluations_in_the_last_third_with_population_statistics():
    found = effects.searched(searched())
    for (variant, rate), level in LEVELS.items():
        np.testing.assert_allclose(found[variant, rate], [level, level + 0.01])


def test_a_run_that_is_lost_guesses_from_where_it_was_lost():
    frame = searched()
    lost = (frame["variant"] == "inception") & (frame["seed"] == 0) & (frame["step"] == 3000)
    found = effects.searched(frame[~(lost & (frame["optim.lr"] == 0.01))])
    assert found["inception", 0.01, 0] == pytest.approx((0.30 + 1 / 50) / 2)
    assert found["inception", 0.01, 1] == pytest.approx(0.31)


def test_inception_s_best_rate_is_the_base_rate_unless_the_usual_one_comes_within_a_point_of_it():
    values = effects.searched(searched())
    assert effects.base_rate(values, usual=0.01) == 0.01  # 30.5 and 30.9%
    assert effects.base_rate(values, usual=0.04) == 0.02
    for level, chosen in ((0.311, 0.02), (0.31, 0.01)):
        apart = effects.searched(searched(LEVELS | {("inception", 0.02): level}))
        assert effects.base_rate(apart, usual=0.01) == chosen


def test_runs_of_several_lengths_are_refused():
    short = searched({("inception", 0.01): 0.3}).assign(**{"train.steps": 1500, "optim.lr": 0.04})
    with pytest.raises(ValueError, match=r"train\.steps is 1500, 3000"):
        effects.searched(pd.concat([searched(), short]))


def test_the_table_of_a_search_has_both_of_two_seeds_and_an_interval_of_three():
    table = effects.search_table(searched()).set_index("net")
    assert list(table.index) == ["Inception", "BN-x5"]
    assert table.loc["Inception", "base rate 0.01"] == "30.50% (30.0, 31.0)"
    assert table.loc["BN-x5", "base rate 0.02"] == "**40.50% (40.0, 41.0)**"
    three = effects.search_table(searched(seeds=3)).set_index("net")
    assert three.loc["Inception", "base rate 0.01"].startswith("31.00% [28.5")


def test_a_rate_that_a_net_was_not_trained_at_has_no_number():
    few = {("inception", 0.02): 0.3, ("inception", 0.04): 0.2, ("bn_x5", 0.01): 0.4, ("bn_x5", 0.04): 0.3}
    table = effects.search_table(searched(few)).set_index("net")
    assert list(table.columns) == ["base rate 0.01", "base rate 0.02", "base rate 0.04"]
    assert table.loc["Inception", "base rate 0.01"] == "–" == table.loc["BN-x5", "base rate 0.02"]


def test_the_best_of_a_net_is_bold_over_all_its_scales_and_nothing_is_where_all_are_equal():
    levels = {("inception", 0.01): 0.3, ("inception", 0.02): 0.2}
    more = {place: level + 0.05 for place, level in levels.items()}
    frame = pd.concat([searched(levels), searched(more, scale=4.0)], ignore_index=True)
    table = effects.search_table(frame, scales=True)
    bold = table[["rate 0.01", "rate 0.02"]].apply(lambda column: column.str.startswith("**"))
    assert bold.to_numpy().tolist() == [[False, False], [True, False]]
    flat = effects.search_table(searched(dict.fromkeys(levels, 0.02)))
    assert not flat.apply(lambda column: column.str.contains("*", regex=False)).to_numpy().any()


def test_a_search_over_scales_has_a_row_for_each():
    frame = pd.concat([searched(scale=scale) for scale in (1.0, 4.0)], ignore_index=True)
    frame = frame[frame["variant"] == "inception"]
    table = effects.search_table(frame, scales=True)
    assert list(table["initial weights"]) == ["1 × N(0, 1 / fan_in)", "4 × N(0, 1 / fan_in)"]
    ((stem, same),) = figures.published_scales(frame)
    assert stem == "sigmoid_inits"
    assert same.equals(table)


def test_the_figure_of_a_search_shows_every_net_and_every_seed():
    (_, figure), _ = figures.published(searched())
    (axes,) = figure.axes
    lines, chance = axes.lines[:-1], axes.lines[-1]
    assert [text.get_text() for text in figure.legends[0].texts] == ["Inception", "BN-x5"]
    assert sum(len(line.get_xdata()) for line in lines) == len(LEVELS) * (1 + 2)
    assert chance.get_ydata()[0] == pytest.approx(2)


def test_a_search_without_its_setting_says_which_column_is_missing():
    with pytest.raises(tidied.MissingData, match=r"model\.init_scale"):
        effects.searched(searched().drop(columns="model.init_scale"), [effects.SCALE])
