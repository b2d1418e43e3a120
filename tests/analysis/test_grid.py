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
def published(frame) -> list:
    return list(figures.published(frame))


def at_the_end(frame: pd.DataFrame, **where) -> pd.Series:
    rows = frame[frame["name"] == "test/accuracy"]
    rows = rows[rows["step"] == rows["train.steps"]]
    names = {"activation": "model.activation", "dropout": "model.dropout", "batch": "data.batch_size"}
    for key, value in where.items():
        rows = rows[rows[names.get(key, key)] == value]
    return rows.groupby("variant")["value"].mean()


def lose(frame: pd.DataFrame, **where) -> pd.DataFrame:
    """The same frame, in which the chosen runs diverged at step 1 but still have their old numbers."""
    run = np.logical_and.reduce([frame[key.replace("__", ".")] == value for key, value in where.items()])
    died = frame[run].drop_duplicates([*grid.CELL, "variant", "seed"])
    return pd.concat([frame, died.assign(name="diverged_at", step=1, value=1.0)])


def test_a_cells_effect_is_the_difference_of_its_arms_at_the_last_step(frame):
    table = (
        grid.by_cell(frame, "BN").query("`batch rule` == 'constant'").set_index(["activation", "batch size"])
    )
    row = table[table["dropout"] == 0].loc[("sigmoid", 512)]
    arms = at_the_end(frame, activation="sigmoid", dropout=0.0, batch=512, **{"optim.batch_rule": "constant"})
    assert row["value"] == pytest.approx(arms["bn"] - arms["baseline"])
    assert row["low"] <= row["value"] <= row["high"]
    assert row["n"] == 3


def test_every_cell_is_compared_once_and_the_batch_where_both_rules_are_one_run_is_left_out(frame):
    assert len(grid.by_cell(frame, "BN")) == 56
    assert len(grid.by_cell(frame, "dropout")) == 56
    rate = grid.by_cell(frame, "linear rate")
    assert len(rate) == 48
    assert 60 not in set(rate["batch size"])


def test_holms_correction_never_makes_a_cell_clearer(frame):
    raw = [
        statistics.p_value(s)
        for _, s in grid.difference(runs.last(frame, "test/accuracy", grid.CELL), "BN").groupby(
            level=[0, 1, 2, 3]
        )
    ]
    adjusted = grid.by_cell(frame, "BN")["p_holm"]
    assert adjusted.min() >= min(raw)
    assert adjusted.max() <= 1


def test_a_cell_whose_difference_is_the_same_in_every_seed_has_no_p_and_is_not_called_clear(frame):
    same = (frame["data.batch_size"] == 8) & (frame["name"] == "test/accuracy")
    of_arm = frame["variant"].map({"baseline": 0.5, "bn": 0.75})  # differences without rounding
    table = grid.by_cell(frame.assign(value=frame["value"].where(~same, of_arm)), "BN")
    assert table.query("`batch size` == 8")["p_holm"].isna().all()
    assert table.query("`batch size` > 8")["p_holm"].notna().all()


def test_a_diverged_run_counts_as_chance_even_where_a_number_is_left(frame):
    lost = lose(frame, variant="baseline", data__batch_size=512)
    values = runs.last(lost, "test/accuracy", grid.CELL).xs(512, level="data.batch_size")
    assert (values.xs("baseline", level="variant") == 0.1).all()
    assert (values.xs("bn", level="variant") > 0.1).all()
    assert runs.last(lost, "test/accuracy", grid.CELL, failed=None).isna().sum() == (values == 0.1).sum()


def test_a_seed_that_one_arm_lacks_is_refused_and_not_dropped(frame):
    alone = frame[~((frame["variant"] == "bn") & (frame["seed"] == 2) & (frame["data.batch_size"] == 8))]
    with pytest.raises(ValueError, match="not paired"):
        grid.by_cell(alone, "BN")


def test_main_effects_tell_bn_from_the_rate(frame):
    table = grid.main_effects(frame).set_index(["effect", "batch sizes"])["value"]
    assert table["BN", "all"] > 0
    assert table["linear rate", "below 60"] < 0 < table["linear rate", "above 60"]
    assert ("linear rate", "all") not in table.index
    assert table["batch size, without BN, constant rate", "per doubling"] < -0.01
    assert abs(table["batch size, without BN, linear rate", "per doubling"]) < 0.002
    assert table["BN's statistics, exact - moving averages", "all"] == pytest.approx(0.001)


def test_an_interaction_is_the_difference_of_bns_effect_between_two_levels(frame):
    cells = grid.by_cell(frame, "BN").query("`batch size` > 60").groupby("batch rule")["value"].mean()
    table = grid.main_effects(frame).set_index(["effect", "batch sizes"])["value"]
    assert table["BN x linear rate", "above 60"] == pytest.approx(cells["linear"] - cells["constant"])


def test_main_effects_take_only_batch_sizes_with_every_combination(frame):
    hole = (frame["data.batch_size"] == 8) & (frame["variant"] == "bn") & (frame["model.dropout"] == 0.5)
    kept = grid.balanced(runs.last(frame[~hole], "test/accuracy", grid.CELL))
    assert sorted(kept.index.get_level_values("data.batch_size").unique()) == [16, 32, 60, 128, 256, 512]


def test_the_slope_is_per_doubling():
    table = pd.DataFrame([[1.0, 3.0, 5.0]], columns=[8, 16, 32])
    assert grid.slope(table).tolist() == pytest.approx([2.0])


def test_the_figures_show_every_line_and_their_captions_say_what_the_band_is(frame, published):
    drawn = [made for _, made in published if not isinstance(made, pd.DataFrame)]
    assert len(drawn) == 3
    panel = drawn[0].axes[0]
    assert len(panel.lines) == 4
    np.testing.assert_allclose(
        1 - panel.lines[1].get_ydata(),
        runs.last(frame, "test/accuracy", grid.CELL)
        .loc["sigmoid", 0.0, "linear", :, "baseline"]
        .groupby(level=0)
        .mean(),
    )
    for figure in drawn:
        assert "3 seeds" in figure.get_supxlabel() or "3 paired" in figure.get_supxlabel()
        assert "band:" in figure.get_supxlabel()
        assert "180,000 examples seen" in figure.get_supxlabel()
    limits = panel.get_ylim()
    assert limits[0] > limits[1]  # errors: the best accuracy is on top


def test_curves_are_drawn_against_examples_and_not_steps(frame):
    ends = {ax.lines[0].get_xdata()[-1] for ax in figures.curves(frame).axes}
    assert all(abs(end - 180_000) < 512 for end in ends)


def test_the_tables_can_be_published(published):
    for _, made in published:
        if isinstance(made, pd.DataFrame):
            assert "p (Holm)" in report.effects_markdown(made)


def test_a_grid_without_an_arm_says_so(frame):
    with pytest.raises(tidy.MissingData, match="baseline"):
        figures.effects(frame[frame["variant"] == "bn"])
