"""The helpers of the lab: small nets, trained once, in words that students read."""

import pandas as pd
import pytest

from bnrepro import lab
from bnrepro.config import ConfigError


def test_a_training_is_accuracies_in_percent_by_step_and_seed():
    found = lab.train("bn", steps=30)
    assert list(found.columns) == [0, 1, 2] and found.index[0] == 0 and found.index[-1] == 30
    assert found.to_numpy().min() >= 0 and 15 < found.iloc[-1].mean() <= 100


def test_the_same_training_is_not_done_twice(monkeypatch):
    first = lab.train("bn", steps=30)
    monkeypatch.setattr("bnrepro.runs.run._train", None)
    pd.testing.assert_frame_equal(lab.train("bn", steps=30), first)


def test_a_net_that_diverged_guesses():
    assert (lab.train("baseline", steps=30, lr=1e30).iloc[-1] == 10).all()


def test_both_arms_are_compared_at_each_value(monkeypatch):
    monkeypatch.setattr(lab, "train", lambda variant, lr: pd.DataFrame([[10 * lr, 90.0]]))
    table = lab.compare(lr=[1, 2])
    assert table.index.name == "lr" and table.loc[2, "with BN"] == "20 to 90%"
    assert list(table.columns) == ["without BN", "with BN"]


@pytest.mark.parametrize("choices", [{}, {"lr": 0.5}, {"activation": "relu"}, {"lr": [1], "steps": [5]}])
def test_what_is_no_list_of_one_setting_is_refused_with_an_example(choices):
    with pytest.raises(ConfigError, match=r"as in compare\(lr=\[0\.1, 1\]\)"):
        lab.compare(**choices)


def test_a_setting_of_another_name_is_refused_and_the_right_ones_are_named():
    with pytest.raises(ConfigError, match=r"no setting of the lab: rate; there are lr, init_std, "):
        lab.train("bn", rate=3)


def test_the_plot_has_a_line_and_a_band_of_each_arm():
    curves = {variant: lab.train(variant, steps=30) for variant in lab.ARMS}
    (ax,) = lab.plot(curves).axes
    assert ax.get_legend_handles_labels()[1] == ["without BN", "with BN"]
    assert len(ax.collections) == 2 and ax.get_xlim() == (0, 30)
