from itertools import product

import numpy as np
import pandas as pd
import pytest
import synthetic_study

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report
from bnrepro.analysis.claims import RULES
from bnrepro.analysis.effects import tolerance
from bnrepro.analysis.figures import tolerance as figures


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return synthetic_study.tolerance_maps()


def runs(rates: list[float], values: list[float], variant: str = "baseline", lost=()) -> pd.DataFrame:
    rows = []
    for rate, value in zip(rates, values, strict=True):
        where = {
            "variant": variant,
            "model.activation": "relu",
            "optim.lr": rate,
            "model.init_std": 0.1,
            "seed": 0,
        }
        rows.append({**where, "step": 9, "name": "val/accuracy", "value": value})
        rows += [{**where, "step": 2, "name": "diverged_at", "value": 2.0}] if rate in lost else []
    return synthetic_study.tidy(rows, "tolerance_maps")


def test_a_collapse_above_a_rate_that_trains_is_divergence_and_below_it_is_slowness():
    fates = tolerance.fates(runs([0.01, 0.1, 1.0, 10.0], [0.1, 0.9, 0.4, 0.5]))
    assert fates["diverged"].tolist() == [False, False, True, False]


def test_a_loss_that_is_not_finite_is_divergence_at_any_rate_and_counts_as_chance():
    fates = tolerance.fates(runs([0.01, 0.1], [0.8, 0.9], lost=[0.01]))
    assert fates["diverged"].tolist() == [True, False]
    assert fates["accuracy"].tolist() == [0.1, 0.9]
    assert tolerance.fates(runs([0.1, 1.0], [0.9, np.nan]))["lost"].tolist() == [False, True]


def test_the_area_is_the_share_of_cells_and_shrinks_with_the_threshold(frame):
    table = tolerance.areas(frame)
    bn = table.query("activation == 'relu' and arm == 'bn'")["value"].to_numpy()
    assert (np.diff(bn) <= 0).all()
    last = frame[(frame["step"] == 2000) & (frame["variant"] == "bn") & (frame["model.activation"] == "relu")]
    expected = (last.query("name == 'val/accuracy'")["value"] >= 0.95).mean()
    row = table.query("activation == 'relu' and arm == 'bn' and `at least` == '95%'")
    assert row["value"].item() == pytest.approx(expected)


def test_the_difference_of_areas_is_paired_and_for_bn(frame):
    table = tolerance.areas(frame, [0.9]).set_index(["activation", "arm"])["value"]
    for activation in ("sigmoid", "relu"):
        arms = table[activation]
        assert arms["bn - baseline"] == pytest.approx(arms["bn"] - arms["baseline"])
        assert arms["bn - baseline"] > 0


def test_the_boundary_is_the_lowest_rate_that_diverges_or_never(frame):
    table = tolerance.edges(frame).set_index("arm")["value"]
    assert set(table["baseline"]) == {3.0}
    assert set(table["bn"]) == {np.inf}
    assert "never" in report.effects_markdown(tolerance.edges(frame))


def test_the_best_rate_is_chosen_at_one_init_std_on_validation_data_only(frame):
    best = tolerance.best_rates(frame)
    assert best["relu", "baseline"] == 0.3
    assert best["relu", "bn"] == 1.0
    with pytest.raises(tidy.MissingData, match="validation"):
        tolerance.best_rates(frame.replace({"name": {"val/accuracy": "test/accuracy"}}))


def multiples(seeds: int = 20, breaks: float = 5, bn_breaks: float = 100) -> pd.DataFrame:
    """Nets at 1 to 10 times a rate that collapse from `breaks` times on, with BN from `bn_breaks` on."""
    rows = []
    for activation, arm, factor, seed in product(
        ("sigmoid", "relu"), ("baseline", "bn"), (1, 3, 5, 10), range(seeds)
    ):
        where = {"variant": arm, "model.activation": activation, "seed": seed, "optim.lr": 0.3}
        where |= {"optim.lr_scale": factor, "model.init_std": 0.1}
        value = 0.1 if factor >= (breaks if arm == "baseline" else bn_breaks) else 0.97
        rows += [
            {**where, "step": step, "name": "val/accuracy", "value": v} for step, v in ((0, 0.1), (9, value))
        ]
    return synthetic_study.tidy(rows, "rate_multiples")


def test_five_times_the_rate_is_judged_for_the_right_arm():
    verdict = RULES["C7"].judge({"rate_multiples": multiples()})
    assert (verdict.verdict, verdict.effect, verdict.high, verdict.n) == ("reproduced", 1.0, 1.0, 20)
    assert verdict.low == pytest.approx(0.83, abs=0.01)  # 20 of 20 is not certainty
    swapped = multiples().replace({"variant": {"baseline": "bn", "bn": "baseline"}})
    assert RULES["C7"].judge({"rate_multiples": swapped}).verdict == "not reproduced"


def test_nets_that_fail_at_ten_times_only_do_not_fail_at_five():
    assert RULES["C7"].judge({"rate_multiples": multiples(breaks=10)}).verdict == "partly"
    assert RULES["C7"].judge({"rate_multiples": multiples(bn_breaks=3)}).verdict == "partly"


def test_both_of_two_rates_that_are_tied_are_multiplied():
    tied = multiples(breaks=10).query("`model.activation` == 'relu'").assign(**{"optim.lr": 0.1})
    verdict = RULES["C7"].judge({"rate_multiples": pd.concat([multiples(), tied])})
    assert verdict.verdict == "partly" and "(relu, 5 x 0.3)" in verdict.note
    assert "without BN (relu, 5 x 0.1) 0.00 [0.00, 0.17]: fails" in verdict.note


def test_the_figure_of_multiples_has_a_panel_for_each_rate_and_a_mark_for_each_share():
    tied = multiples(breaks=10).query("`model.activation` == 'relu'").assign(**{"optim.lr": 0.1})
    frame = pd.concat([multiples(), tied])
    table = tolerance.failures(frame).set_index(["activation", "rate", "multiple", "share of nets that fail"])
    assert table.loc[("relu", 0.3, "5", "baseline"), "value"] == 1 and table["n"].unique().tolist() == [20]
    assert table.loc[("relu", 0.1, "5", "baseline"), "value"] == 0
    fig = figures.multiples(frame)
    assert [ax.get_title() for ax in fig.axes] == ["sigmoid, rate 0.3", "ReLU, rate 0.3", "ReLU, rate 0.1"]
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), [0, 0, 100, 100])


def test_few_nets_carry_no_verdict():
    assert RULES["C7"].judge({"rate_multiples": multiples(seeds=4)}).verdict == "inconclusive"
    with pytest.raises(tidy.MissingData, match="5 times"):
        RULES["C7"].judge({"rate_multiples": multiples().query("`optim.lr_scale` != 5")})


def test_the_map_counts_diverged_seeds_and_draws_both_borders(frame):
    fig = figures.maps(frame)
    baseline, bn, difference = fig.axes[:3]
    assert sum(t.get_text() == "✕" for t in baseline.texts) == 15
    assert not any("✕" in t.get_text() for t in [*bn.texts, *difference.texts])
    _, trained, diverged = baseline.collections  # beside the map
    assert len(diverged.get_segments()) == 5  # one straight border across the five init stds
    assert len(trained.get_segments()) > 5
    assert "mean of 3 seeds" in fig.get_supxlabel()


def test_a_border_runs_between_unlike_cells_only_and_not_along_the_maps_edge():
    ax = figures.Figure().subplots()
    figures.outline(ax, np.array([[True, False], [True, False]]), "k")
    (lines,) = ax.collections
    assert [np.asarray(s).tolist() for s in lines.get_segments()] == [
        [[1, 0], [1, 1]],
        [[1, 1], [1, 2]],
    ]


def test_what_is_published_reads_as_a_table_or_a_figure(frame):
    made = list(figures.published(frame))
    assert [stem for stem, _ in made] == [
        "tolerance_maps",
        "tolerance_area",
        "tolerance_area",
        "tolerance_edges",
    ]
    assert "45 cells" in made[1][1].get_supxlabel()
    assert all(report.effects_markdown(table) for _, table in made[2:])
