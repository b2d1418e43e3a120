import numpy as np
import pandas as pd
import pytest
import synthetic_more

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import inference as effects
from bnrepro.analysis.figures import inference as figures

FRAME = synthetic_more.inference_stats()


def cost(frame: pd.DataFrame = FRAME) -> pd.Series:
    return effects.cost_table(frame).set_index(["population minus", "momentum", "batch size", "when"])[
        "value"
    ]


def test_the_cost_is_what_population_statistics_would_have_added():
    found = cost()
    assert found["moving averages", "0.5", 4, "last step"] == pytest.approx(0.0125, abs=5e-4)
    assert found["moving averages", "0.01", 4, "last step"] == pytest.approx(0.0, abs=5e-4)
    assert found["moving averages", "0.01", 4, "mean over training"] > 0.002  # late averages cost early


def test_statistics_of_the_test_batch_have_one_row_for_all_momenta():
    found = cost()["test batch's own"]
    assert set(found.index.get_level_values("momentum")) == {"any"}
    assert found["any", 4, "last step"] == pytest.approx(0.05, abs=0.005)
    assert found["any", 4, "last step"] > found["any", 256, "last step"] > 0


def test_a_diverged_net_is_at_chance_with_every_statistic_and_costs_nothing():
    run = (FRAME["data.batch_size"] == 4) & (FRAME["step"] > 100)
    lost = FRAME.assign(value=FRAME["value"].mask(run))
    assert cost(lost)["moving averages", "0.5", 4, "last step"] == 0


def caught_up(behind: list[float]) -> float:
    steps = [0, 10, 20, 50]
    population = pd.DataFrame({0: [0.9] * 4}, index=steps)
    return effects.caught_up(population.sub(behind, axis=0), population)[0]


def test_catching_up_counts_from_the_step_after_the_last_one_behind():
    assert caught_up([0.5, 0.1, 0.0, 0.0]) == 20
    assert caught_up([0.5, 0.0, 0.1, 0.0]) == 50  # once ahead is not for good
    assert caught_up([0.5, 0.0, 0.0, 0.0]) == 10  # step 0 never counts
    assert caught_up([0.0, -0.1, 0.004, 0.004]) == 10  # better is near, and so is less than half a point


def test_averages_that_never_catch_up_are_kept_as_never():
    assert caught_up([0.5, 0.0, 0.0, 0.1]) == np.inf
    table = effects.catch_up_table(FRAME).set_index(["momentum", "batch size"])
    assert table.loc[("0.5", 4), ["value", "censored"]].tolist() == [np.inf, 5]
    assert table["censored"].sum() == 5


def test_a_longer_memory_takes_longer_to_catch_up():
    steps = effects.catch_up_table(FRAME).set_index(["momentum", "batch size"])["value"]
    assert steps["0.01", 60] > steps["0.1", 60] > steps["0.5", 60]


def test_the_figure_has_a_row_per_momentum_a_column_per_batch_size_and_three_lines():
    figure = dict(list(figures.published(FRAME))[:1])["inference_stats"]
    assert len(figure.axes) == 12
    assert {len(ax.lines) for ax in figure.axes} == {3}
    assert [ax.get_title() for ax in figure.axes[:4]] == [f"batch size {m}" for m in (4, 16, 60, 256)]
    words = [ax.texts[0].get_text() for ax in figure.axes]
    assert words[8] == "never"
    assert words[0] == "from step 500"


def test_without_bn_or_without_one_of_the_statistics_there_is_no_comparison():
    with pytest.raises(tidy.MissingData, match="named bn"):
        effects.cells(FRAME.assign(variant="baseline"))
    with pytest.raises(tidy.MissingData, match="accuracy_batch"):
        effects.cells(FRAME[FRAME["name"] != "test/accuracy_batch"])
