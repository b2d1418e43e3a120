import numpy as np
import pandas as pd
import pytest
import synthetic_more

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import runs
from bnrepro.analysis.effects import small_batches as effects
from bnrepro.analysis.figures import small_batches as figures

FRAME = synthetic_more.small_batches(sizes=(2, 16, 32, 256))


def test_exact_statistics_are_the_same_nets_judged_once_more():
    every = effects.accuracies(FRAME)
    assert list(every) == list(effects.METHODS)
    assert (every["bn_exact"] > every["bn"]).all()


def test_a_diverged_run_counts_as_chance_and_is_counted():
    assert effects.accuracies(FRAME).loc[(256, 0), "baseline"] == 0.1
    table = effects.errors_table(FRAME).set_index(["batch size", "test error of"])
    assert table.loc[(256, "without BN"), "diverged"] == "1/5"
    assert table.loc[(256, "without BN"), "value"] > 0.18
    assert (table["diverged"] == "0/5").sum() == len(table) - 1


def test_a_diverged_bn_run_is_chance_with_exact_statistics_too_whatever_rows_it_left():
    run = (FRAME["variant"] == "bn") & (FRAME["seed"] == 3) & (FRAME["data.batch_size"] == 2)
    died = FRAME[run & (FRAME["step"] > 0)].head(1).assign(name="diverged_at", value=7.0, step=7)
    frame = pd.concat([FRAME[~(run & (FRAME["name"] == "test/accuracy_population"))], died])
    assert effects.accuracies(frame).loc[(2, 3), ["bn", "bn_exact"]].tolist() == [0.1, 0.1]


def test_a_run_that_is_missing_is_missing_and_not_chance():
    run = (FRAME["variant"] == "layernorm") & (FRAME["seed"] == 3) & (FRAME["data.batch_size"] == 2)
    assert np.isnan(effects.accuracies(FRAME[~run]).loc[(2, 3), "layernorm"])
    rows = effects.differences(FRAME[~run]).query("`batch size` == 2 and method == 'LayerNorm'")
    assert rows["n"].item() == 4


def test_differences_are_paired_and_positive_where_the_method_is_better():
    table = effects.differences(FRAME, "bn").set_index(["batch size", "method"])
    assert table.loc[(2, "without BN"), "value"] == pytest.approx(0.192, abs=0.003)
    assert table.loc[(2, "without BN"), "p_holm"] < 0.001
    assert table.loc[(256, "without BN"), "p_holm"] > 0.05  # one diverged seed of five decides nothing
    back = effects.differences(FRAME, "baseline").set_index(["batch size", "method"])
    assert back.loc[(2, "BN, moving averages"), "value"] == -table.loc[(2, "without BN"), "value"]


def test_ghost_bn_is_not_compared_with_bn_where_a_batch_is_one_group():
    table = effects.differences(FRAME, "bn").query("method == 'Ghost BN'")
    assert table["batch size"].tolist() == [32, 256]


def test_the_grid_of_words_stars_what_is_clear_and_keeps_the_tables_order():
    grid = runs.compact(effects.differences(FRAME, "bn"), "batch size", "method")
    assert grid.index.tolist() == [2, 16, 32, 256]
    assert grid.loc[2, "without BN"].endswith("*")
    assert not grid.loc[256, "without BN"].endswith("*")
    assert grid.loc[2, "Ghost BN"] == "–"


def test_the_figure_shows_bn_in_both_panels_and_says_what_diverged():
    made = list(figures.published(FRAME))
    assert [stem for stem, _ in made] == [
        "small_batches",
        "small_batches",
        "small_batches_minus_bn",
        "small_batches_minus_baseline",
    ]
    figure = made[0][1]
    for ax in figure.axes[:2]:
        line = next(line for line in ax.lines if line.get_label() == "BN, moving averages")
        expected = 100 * (1 - effects.accuracies(FRAME)["bn"].groupby("data.batch_size").mean())
        np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)
    assert "1 of the runs diverged" in " ".join(figure.get_supxlabel().split())  # it is wrapped


def test_a_method_is_judged_on_the_test_set_at_the_rate_that_held_out_images_choose():
    frame = FRAME.assign(**{"data.holdout": 0})
    held = frame[frame["name"] == "test/accuracy"].assign(name="val/accuracy")
    faster = frame[frame["name"] != "diverged_at"].assign(**{"optim.lr": 0.3})  # on the test set as good
    better = held[held["data.batch_size"] == 16].assign(**{"optim.lr": 0.3})
    worse = held[held["data.batch_size"] != 16].assign(**{"optim.lr": 0.3, "value": 0.2})
    better = better.assign(value=better["value"] + 0.01 * (better["step"] > 0))
    both = pd.concat([frame, held, faster.assign(value=faster["value"] - 0.05), better, worse])
    rates = effects.rates(both)
    assert (rates.loc[16] == 0.3).all() and (rates.drop(index=16) == 0.1).all(axis=None)
    assert list(rates) == [method for method in effects.METHODS if method != "bn_exact"]
    expected = effects.accuracies(FRAME)
    expected.loc[16] = expected.loc[16].to_numpy() - 0.05
    pd.testing.assert_frame_equal(effects.accuracies(both), expected)
    table = effects.errors_table(both).set_index(["batch size", "test error of"])["rate at 60"]
    assert table[16, "BN, exact statistics"] == "0.3" and table[2, "GroupNorm"] == "0.1"
    assert effects.shown_rates(both).loc[16, "GroupNorm"] == "0.3 *"


def test_equally_good_rates_go_to_the_lower_one_and_a_diverged_run_is_chance():
    other = FRAME.assign(**{"optim.lr": 0.3})
    both = pd.concat([FRAME, other])
    assert (effects.rates(both) == 0.1).all(axis=None)
    run = (other["variant"] == "layernorm") & (other["data.batch_size"] == 2)
    died = other[run & (other["seed"] == 3) & (other["step"] > 0)].assign(name="diverged_at", value=7.0)
    above = other[run].assign(value=other[run]["value"] + 0.01)
    assert effects.rates(pd.concat([FRAME, above])).loc[2, "layernorm"] == 0.3
    assert effects.rates(pd.concat([FRAME, above, died])).loc[2, "layernorm"] == 0.1


def test_two_runs_where_one_belongs_are_refused_and_a_missing_column_is_named():
    with pytest.raises(ValueError, match="several runs"):
        effects.accuracies(pd.concat([FRAME, FRAME]))
    with pytest.raises(tidy.MissingData, match=r"data\.batch_size"):
        effects.accuracies(FRAME.drop(columns="data.batch_size"))
