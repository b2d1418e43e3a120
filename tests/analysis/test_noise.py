import numpy as np
import pandas as pd
import pytest
import synthetic_study
from hypothesis import given
from hypothesis import strategies as st

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report
from bnrepro.analysis.claims import RULES
from bnrepro.analysis.effects import noise
from bnrepro.analysis.figures import noise as figures


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return synthetic_study.batch_noise()


@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_the_theory_is_what_independent_draws_have(law):
    draws = getattr(np.random.default_rng(0), law)(size=(200_000, 8))
    kurtosis = {"normal": 3.0, "exponential": 9.0}[law]
    assert draws.mean(axis=1).var() == pytest.approx(noise.theory("mu", 8), rel=0.02)
    assert draws.var(axis=1).var() == pytest.approx(noise.theory("var", 8, kurtosis), rel=0.03)


def test_each_net_is_held_against_the_theory_at_its_own_kurtosis(frame):
    strange = (frame["name"] == "noise/kurtosis") & (frame["seed"] == 1) & (frame["data.batch_size"] == 60)
    table = noise.expected(frame.assign(value=frame["value"].where(~strange, 9.0)), "var")
    assert table.loc[(60, 1), 8] == pytest.approx(noise.theory("var", 8, 9.0))
    assert table.loc[(60, 0), 8] == pytest.approx(noise.theory("var", 8, 4.0))


def test_the_slope_of_one_over_m_is_minus_one(frame):
    mu = frame["name"].str.startswith("noise/mu/m")
    exact = frame.assign(
        value=frame["value"].where(~mu, 1 / frame["name"].str.extract(r"m(\d+)$")[0].astype(float))
    )
    np.testing.assert_allclose(noise.slopes(exact, "mu"), -1.0)
    table = noise.noise_table(exact)
    assert table.query("M == 8 and quantity.str.contains('mean')")["value"].item() == pytest.approx(1.0)


def test_noise_is_read_from_the_nets_with_bn_only(frame):
    other = frame[frame["name"].str.startswith("noise/")].assign(variant="bn_frozen", value=99.0)
    both = pd.concat([frame, other], ignore_index=True)
    pd.testing.assert_frame_equal(noise.noise(both, "mu"), noise.noise(frame, "mu"))


def test_the_gap_is_training_minus_test_accuracy_at_the_last_step(frame):
    rows = frame[(frame["variant"] == "bn") & (frame["data.batch_size"] == 8) & (frame["seed"] == 0)]
    last = rows[rows["step"] == rows["step"].max()].set_index("name")["value"]
    gap = noise.gaps(frame, when="examples").loc[("bn", 0), 8]
    assert gap == pytest.approx(last["train/accuracy_eval"] - last["test/accuracy"])
    assert noise.gaps(frame, "loss", "examples").loc[("bn", 0), 8] == pytest.approx(
        last["test/loss"] - last["train/loss_eval"]
    )


def curve(variant: str, points: list[tuple[int, float, float]]) -> pd.DataFrame:
    """(step, training loss, gap) of one run."""
    where = {"variant": variant, "seed": 0, "data.batch_size": 8}
    rows = []
    for step, loss, gap in points:
        values = {"train/loss_eval": loss, "train/accuracy_eval": 0.9 + gap, "test/accuracy": 0.9}
        rows += [{**where, "step": step, "name": name, "value": value} for name, value in values.items()]
    return pd.DataFrame(rows)


def test_the_gap_at_equal_training_loss_is_read_where_both_have_fitted_equally_well():
    slow = curve("bn", [(0, 2.3, 0.0), (10, 1.0, 0.01), (20, 0.5, 0.02)])
    fast = curve("baseline", [(0, 2.3, 0.0), (10, 0.8, 0.01), (20, 0.4, 0.03), (30, 0.1, 0.09)])
    gaps = noise.gaps(pd.concat([slow, fast]))[8]
    assert gaps["bn", 0] == pytest.approx(0.02)
    assert gaps["baseline", 0] == pytest.approx(0.01 + 0.02 * 0.3 / 0.4)


@given(
    st.lists(st.floats(0.01, 2), min_size=2, max_size=6), st.lists(st.floats(0.01, 2), min_size=2, max_size=6)
)
def test_at_equal_training_loss_every_gap_lies_between_two_measured_ones(one, other):
    runs = [
        curve(arm, [(k + 1, loss, 0.01 * k) for k, loss in enumerate(losses)])
        for arm, losses in (("bn", one), ("baseline", other))
    ]
    gaps = noise.gaps(pd.concat(runs))[8]
    for arm, losses in (("bn", one), ("baseline", other)):
        assert -1e-9 <= gaps[arm, 0] <= 0.01 * (len(losses) - 1) + 1e-9


def test_a_batch_size_at_which_a_run_diverged_is_left_out_for_every_variant(frame):
    lost = (frame["variant"] == "bn_frozen") & (frame["data.batch_size"] == 8) & (frame["seed"] == 3)
    died = frame[lost].iloc[:1].assign(name="diverged_at", value=5.0, step=5)
    slopes, left_out = noise.gap_slopes(pd.concat([frame, died]))
    assert left_out == [8]
    assert slopes.notna().all(axis=None)
    verdict = RULES["C17"].judge({"batch_noise": pd.concat([frame, died])})
    assert "batch size 8 left out" in verdict.note


def test_a_batch_size_at_which_one_variants_nets_have_not_fitted_is_left_out_for_all(frame):
    kept, short = noise.fitted(frame)
    assert short == []
    pd.testing.assert_frame_equal(kept, frame)
    of = (frame["name"] == "train/accuracy_eval") & (frame["step"] > 0) & (frame["variant"] == "bn")
    worse = frame.assign(value=frame["value"].where(~of | (frame["data.batch_size"] != 8), 0.98))
    kept, short = noise.fitted(worse)
    assert short == [8]
    assert set(kept["data.batch_size"]) == set(synthetic_study.BATCHES) - {8}
    with pytest.raises(tidy.MissingData, match="at no batch size does every variant fit 99%"):
        noise.fitted(frame.assign(value=frame["value"].where(frame["name"] != "train/accuracy_eval", 0.98)))


def test_a_net_that_diverged_says_nothing_of_how_well_the_others_fit(frame):
    lost = (frame["variant"] == "bn") & (frame["data.batch_size"] == 8) & (frame["seed"] == 3)
    died = frame[lost].iloc[:1].assign(name="diverged_at", value=5.0, step=5)
    low = frame["value"].where(~lost | (frame["name"] != "train/accuracy_eval"), 0.1)
    kept, short = noise.fitted(pd.concat([frame.assign(value=low), died]))
    assert short == []
    assert noise.gap_slopes(kept)[1] == [8]


def test_nets_that_have_not_fitted_neither_count_nor_decide_where_the_others_are_compared(frame):
    worse = (frame["variant"] == "bn") & (frame["data.batch_size"] == 8) & (frame["step"] > 0)
    changed = {"train/accuracy_eval": 0.97, "train/loss_eval": 0.5}
    poor = frame.assign(value=frame["value"].where(~worse, frame["name"].map(changed).fillna(frame["value"])))
    verdict = RULES["C17"].judge({"batch_noise": poor})
    assert "(batch size 8 left out: not fitted)" in verdict.note
    without = RULES["C17"].judge({"batch_noise": frame[frame["data.batch_size"] != 8]})
    assert (verdict.verdict, verdict.effect) == (without.verdict, without.effect)
    fig = figures.batch_noise(poor)
    assert "without mini-batches of 8, at which nets have not fitted their images" in fig.get_supxlabel()
    gaps = next(line for line in fig.axes[3].lines if line.get_label() == "with BN")
    assert list(gaps.get_xdata()) == [m for m in synthetic_study.BATCHES if m != 8]
    _, _, (_, table) = figures.published(poor)
    assert 8 not in set(table["batch size"])


def test_where_no_net_fits_the_noise_is_drawn_and_no_gap(frame):
    poor = frame.assign(value=frame["value"].where(frame["name"] != "train/accuracy_eval", 0.98))
    fig = figures.batch_noise(poor)
    assert "at no batch size does every variant fit 99%" in fig.get_supxlabel()
    assert fig.axes[0].lines
    assert not fig.axes[3].lines


def test_nets_have_fitted_if_their_mean_over_seeds_is_at_the_bound(frame):
    mine = (frame["variant"] == "bn") & (frame["data.batch_size"] == 8) & (frame["step"] > 0)
    right = mine & (frame["name"] == "train/accuracy_eval")
    for low, short in ((0.95, []), (0.9, [8])):  # of five seeds the others are at 1: means of 0.99 and 0.98
        values = frame["value"].where(~right, np.where(frame["seed"] == 0, low, 1.0))
        assert noise.fitted(frame.assign(value=values))[1] == short


def test_less_noise_and_less_regularization_with_bn_alone_is_the_claim(frame):
    verdict = RULES["C17"].judge({"batch_noise": frame})
    assert verdict.verdict == "reproduced"
    assert verdict.n == 5
    assert verdict.effect == pytest.approx(0.004, rel=0.1)


@pytest.mark.parametrize("other", ["baseline", "bn_frozen"])
def test_a_gap_that_grows_without_the_noise_too_is_not_its_doing(other):
    verdict = RULES["C17"].judge({"batch_noise": synthetic_study.batch_noise(regularized=other)})
    assert verdict.verdict == "not reproduced"


def test_a_gap_that_falls_less_than_the_baselines_is_part_of_the_claim(frame):
    test = (frame["name"] == "test/accuracy") & (frame["step"] > 0)
    tilted = frame["value"] + 0.01 * np.log2(frame["data.batch_size"] / 8)
    verdict = RULES["C17"].judge({"batch_noise": frame.assign(value=frame["value"].where(~test, tilted))})
    assert verdict.verdict == "partly"
    assert verdict.effect == pytest.approx(-0.006, rel=0.1)


def test_without_the_frozen_control_the_claim_is_not_tested(frame):
    for absent in ("bn_frozen", "baseline"):
        with pytest.raises(tidy.MissingData, match=absent):
            RULES["C17"].judge({"batch_noise": frame[frame["variant"] != absent]})


def test_the_figure_shows_theory_beside_measurement_and_every_variants_gap(frame):
    fig = figures.batch_noise(frame)
    a, b, c, d = fig.axes
    lines = {line.get_label(): line for line in a.lines}
    np.testing.assert_allclose(lines["theory: 1/M"].get_ydata(), 1 / np.array(synthetic_study.BATCHES))
    assert "theory, with the unit's kurtosis" in b.get_legend_handles_labels()[1]
    assert "measured" in c.get_legend_handles_labels()[1]
    assert d.get_legend_handles_labels()[1] == ["without BN", "with BN", "BN, noise frozen", "Ghost BN of 16"]
    assert "5,000 training images, a subset for each seed. Mean of 5" in fig.get_supxlabel()


def test_the_tables_can_be_published(frame):
    tables = [made for _, made in figures.published(frame) if isinstance(made, pd.DataFrame)]
    assert len(tables) == 2
    assert "with BN - BN, noise frozen" in report.effects_markdown(tables[1])


def test_a_nets_noise_is_read_at_its_own_batch_size_whatever_its_seeds_are_called(frame):
    """A seed that is called like a batch size is no batch size."""
    table = noise.noise(frame, "mu")
    renamed = table.rename(index=lambda seed: seed + 6, level="seed")  # 6 to 10: one of them is 8
    own = figures._own(renamed)
    assert own.index.tolist() == list(synthetic_study.BATCHES) and own.columns.tolist() == [6, 7, 8, 9, 10]
    np.testing.assert_array_equal(own.loc[8], table.loc[8][8])
