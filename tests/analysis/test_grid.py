import numpy as np
import pandas as pd
import pytest
import synthetic_study

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report, statistics
from bnrepro.analysis.effects import grid, runs
from bnrepro.analysis.figures import grid as figures


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return synthetic_study.design_grid()


@pytest.fixture(scope="module")
def under(frame) -> pd.DataFrame:
    return grid.by_rule(frame)


@pytest.fixture(scope="module")
def published(frame) -> list:
    return list(figures.published(frame))


def at_the_end(runs: pd.DataFrame, **where) -> pd.Series:
    rows = runs[runs["name"] == "test/accuracy"]
    names = {"activation": "model.activation", "dropout": "model.dropout", "batch": "data.batch_size"}
    for key, value in where.items():
        rows = rows[rows[names.get(key, key)] == value]
    return rows.groupby("variant")["value"].mean()


def lose(frame: pd.DataFrame, **where) -> pd.DataFrame:
    """The same frame, in which the chosen runs diverged at step 1 but still have their old numbers."""
    run = np.logical_and.reduce([frame[key.replace("__", ".")] == value for key, value in where.items()])
    died = frame[run].drop_duplicates([*grid.PLACE, "optim.batch_rule", "optim.lr", "variant", "seed"])
    return pd.concat([frame, died.assign(name="diverged_at", step=1, value=1.0)])


def test_each_rule_has_one_run_per_cell_arm_and_seed(under):
    runs = under[under["name"] == "test/accuracy"]
    assert not runs.duplicated([*grid.CELL, "variant", "seed"]).any()
    assert len(runs) == 3 * 2 * 2 * 7 * 2 * 3


def test_the_two_rules_are_the_same_run_at_the_batch_where_their_rates_meet(under):
    there = under[(under["data.batch_size"] == grid.MEETS) & (under["name"] == "test/accuracy")]
    of = {rule: rows["value"].tolist() for rule, rows in there.groupby("rule")}
    assert of["constant"] == of["linear"]


def test_a_cells_own_rate_is_the_best_of_all_tried_and_the_ends_are_marked(frame, under):
    own = under[(under["rule"] == "own") & (under["data.batch_size"] == 512)].groupby("variant")["optim.lr"]
    assert own.unique().map(list).to_dict() == {
        "baseline": [pytest.approx(0.1 * 512 / 60)],  # more diverges in these made-up runs
        "bn": [pytest.approx(0.4 * 512 / 60)],
    }
    words = grid.rates(frame)
    assert words.loc[("relu", 0.0, "baseline"), 512] == "0.85"
    assert words.loc[("relu", 0.0, "bn"), 512] == "3.4"
    assert words.loc[("relu", 0.0, "bn"), 8] == "0.85 *"  # 6.4 * 8 / 60, the highest there


def test_a_cells_own_rate_does_not_look_at_the_test_set(frame):
    spoilt = frame.assign(value=frame["value"].where(frame["name"] != "test/accuracy", 0.5))
    pd.testing.assert_frame_equal(grid.rates(spoilt), grid.rates(frame))


def test_what_was_measured_up_to_a_share_of_the_training_is_the_last_evaluation_before_it(frame):
    for share in grid.TIMES:
        rows = grid.upto(frame, share)
        by_size = rows.groupby("data.batch_size")
        np.testing.assert_allclose(by_size["step"].max() / by_size["train.steps"].max(), share, rtol=0.01)


def test_a_cells_effect_is_the_difference_of_its_arms_at_the_last_step(under):
    table = grid.by_cell(under, "BN").query("rule == 'constant'").set_index(["activation", "batch size"])
    row = table[table["dropout"] == 0].loc[("sigmoid", 512)]
    arms = at_the_end(under, activation="sigmoid", dropout=0.0, batch=512, rule="constant")
    assert row["value"] == pytest.approx(arms["bn"] - arms["baseline"])
    assert row["low"] <= row["value"] <= row["high"]
    assert row["n"] == 3


def test_every_cell_is_compared_once_and_the_batch_where_both_rules_are_one_run_is_left_out(under):
    assert len(grid.by_cell(under, "BN")) == 84 - 4
    assert len(grid.by_cell(under, "dropout")) == 84 - 4
    best = grid.by_cell(under, "best rate")
    assert (best["value"] != 0).all() and 40 < len(best) < 56
    rate = grid.by_cell(under, "linear rate")
    assert len(rate) == 48
    assert 60 not in set(rate["batch size"])


def test_holms_correction_never_makes_a_cell_clearer(under):
    cells = grid.difference(runs.last(under, "test/accuracy", grid.CELL), "BN").groupby(level=[0, 1, 2, 3])
    raw = [statistics.p_value(seeds) for _, seeds in cells]
    adjusted = grid.by_cell(under, "BN")["p_holm"]
    assert adjusted.min() >= min(raw)
    assert adjusted.max() <= 1


def test_a_cell_whose_difference_is_the_same_in_every_seed_has_no_p_and_is_not_called_clear(under):
    same = (under["data.batch_size"] == 8) & (under["name"] == "test/accuracy")
    of_arm = under["variant"].map({"baseline": 0.5, "bn": 0.75})  # differences without rounding
    table = grid.by_cell(under.assign(value=under["value"].where(~same, of_arm)), "BN")
    assert table.query("`batch size` == 8")["p_holm"].isna().all()
    assert table.query("`batch size` > 8")["p_holm"].notna().all()


def test_a_diverged_run_counts_as_chance_even_where_a_number_is_left(frame):
    lost = grid.by_rule(lose(frame, variant="baseline", data__batch_size=512))
    values = runs.last(lost, "test/accuracy", grid.CELL).xs(512, level="data.batch_size")
    assert (values.xs("baseline", level="variant") == 0.1).all()
    assert (values.xs("bn", level="variant") > 0.1).all()
    assert runs.last(lost, "test/accuracy", grid.CELL, failed=None).isna().sum() == (values == 0.1).sum()


def test_a_seed_that_one_arm_lacks_is_refused_and_not_dropped(under):
    alone = under[~((under["variant"] == "bn") & (under["seed"] == 2) & (under["data.batch_size"] == 8))]
    with pytest.raises(ValueError, match="not paired"):
        grid.by_cell(alone, "BN")


def test_main_effects_tell_bn_from_the_rate(under):
    table = grid.main_effects(under).set_index(["effect", "batch sizes"])["value"]
    assert table["BN, rate constant", "all"] > table["BN, rate linear", "all"] > 0
    assert table["linear rate", "below 60"] < 0 < table["linear rate", "above 60"]
    assert ("linear rate", "all") not in table.index
    assert table["best rate", "all"] > 0
    assert table["batch size, without BN, rate constant", "per doubling"] < -0.01
    assert abs(table["batch size, without BN, rate linear", "per doubling"]) < 0.002
    assert table["BN's statistics, exact - moving averages", "all"] == pytest.approx(0.001)


def test_an_interaction_is_the_difference_of_bns_effect_between_two_levels(under):
    cells = grid.by_cell(under, "BN").query("`batch size` > 60").groupby("rule")["value"].mean()
    table = grid.main_effects(under).set_index(["effect", "batch sizes"])["value"]
    assert table["BN x linear rate", "above 60"] == pytest.approx(cells["linear"] - cells["constant"])


def test_main_effects_take_only_batch_sizes_with_every_combination(under):
    hole = (under["data.batch_size"] == 8) & (under["variant"] == "bn") & (under["model.dropout"] == 0.5)
    kept = grid.balanced(runs.last(under[~hole], "test/accuracy", grid.CELL))
    assert sorted(kept.index.get_level_values("data.batch_size").unique()) == [16, 32, 60, 128, 256, 512]


def test_a_cell_in_which_a_net_stays_at_chance_is_told_apart_from_the_mean_over_cells(frame):
    cell = {"model__activation": "relu", "model__dropout": 0.5, "data__batch_size": 8}
    only = grid.by_rule(
        lose(frame, optim__batch_rule="constant", variant="baseline", seed=1, optim__lr=grid.RATE, **cell)
    )
    table = grid.where_all_learn(only).set_index(["effect", "cells"])["value"]
    all_cells, others = table["BN, rate constant"][["all (28)", "every run at least 50% (27)"]]
    cells = grid.difference(runs.last(only, "test/accuracy", grid.CELL).xs("constant", level="rule"), "BN")
    there = cells.xs(("relu", 0.5, 8), level=list(grid.PLACE)[:3]).mean()
    assert all_cells == pytest.approx(cells.mean()) and there > 0.2
    assert others == pytest.approx((28 * all_cells - there) / 27)
    own = table["BN, rate its own best"]
    assert own["all (28)"] == pytest.approx(own["every run at least 50% (28)"])


def test_over_time_ends_with_the_effects_at_the_end_and_shows_them_earlier(under):
    table = grid.over_time(under)
    bn = table[table["effect"] == "BN"].set_index(["rate", "examples seen"])["value"]
    assert list(bn["linear"].index) == ["50,000", "250,000", "1,000,000"]
    cells = grid.by_cell(under, "BN", "val/accuracy").groupby("rule")["value"].mean()
    assert bn["linear", "1,000,000"] == pytest.approx(cells["linear"])
    assert bn["linear", "50,000"] > bn["linear", "1,000,000"]  # in these made-up runs BN is mostly faster
    assert table["p_holm"].notna().all()


def test_the_slope_is_per_doubling():
    table = pd.DataFrame([[1.0, 3.0, 5.0]], columns=[8, 16, 32])
    assert grid.slope(table).tolist() == pytest.approx([2.0])


def test_the_figures_show_every_line_and_their_captions_say_what_the_band_is(under, published):
    drawn = [made for _, made in published if not isinstance(made, pd.DataFrame)]
    assert len(drawn) == 3
    panel = drawn[0].axes[0]
    assert len(panel.lines) == 6
    np.testing.assert_allclose(
        1 - panel.lines[1].get_ydata(),
        runs.last(under, "test/accuracy", grid.CELL)
        .loc["sigmoid", 0.0, "linear", :, "baseline"]
        .groupby(level=0)
        .mean(),
    )
    for figure in drawn:
        assert "3 seeds" in figure.get_supxlabel() or "3 paired" in figure.get_supxlabel()
        assert "band:" in figure.get_supxlabel()
        assert "1,000,000 examples seen" in figure.get_supxlabel()
    limits = panel.get_ylim()
    assert limits[0] > limits[1]  # errors: the best accuracy is on top


def test_curves_are_drawn_against_examples_and_not_steps(under):
    figure = figures.curves(under)
    ends = {ax.lines[0].get_xdata()[-1] for ax in figure.axes}
    assert all(abs(end - 1_000_000) < 512 for end in ends)
    assert figure.get_supylabel().startswith("validation")


def test_the_tables_can_be_published(published):
    for _, made in published:
        if isinstance(made, pd.DataFrame):
            assert "p (Holm)" in report.effects_markdown(made)


def test_a_grid_without_an_arm_or_a_rule_says_so(frame, under):
    with pytest.raises(tidy.MissingData, match="baseline"):
        figures.effects(under[under["variant"] == "bn"])
    with pytest.raises(tidy.MissingData, match="constant"):
        grid.by_rule(frame[frame["optim.batch_rule"] == "linear"])
    with pytest.raises(tidy.MissingData, match="held-out"):
        grid.by_rule(frame[frame["name"] != "val/accuracy"])
    with pytest.raises(tidy.MissingData, match=r"optim\.lr"):
        grid.by_rule(frame.drop(columns="optim.lr"))
