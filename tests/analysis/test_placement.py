import numpy as np
import pytest
import synthetic_more

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import placement as effects
from bnrepro.analysis.figures import placement as figures

FRAME = synthetic_more.placement()


def test_every_effect_put_in_is_found_and_no_other():
    table = effects.effects_table(FRAME).set_index(["activation", "effect"])
    assert len(table) == 12
    for activation in ("sigmoid", "relu"):
        found = table.loc[activation, "value"]
        assert found["BN after - before"] == pytest.approx(-0.008, abs=5e-4)
        assert found["gamma, beta: with - without"] == pytest.approx(0.006, abs=5e-4)
        assert found["bias: on - off"] == pytest.approx(0.002, abs=5e-4)
        assert found["placement × bias"] == pytest.approx(0.004, abs=5e-4)  # helps after, not before
        clear = table.loc[activation, "p_holm"] < 0.05
        assert not clear["placement × gamma, beta"]
        assert not clear["gamma, beta × bias"]
        assert clear.sum() == 4


def test_the_gain_over_no_bn_is_given_for_each_of_the_eight_nets():
    table = effects.gains_table(FRAME)
    assert len(table) == 16
    best = table.query("activation == 'relu' and BN == 'before' and `gamma, beta` == 'with'")
    np.testing.assert_allclose(best["value"], 0.02, atol=2e-3)


def test_the_levels_are_recognized_as_words_and_as_the_booleans_yaml_makes_of_on_and_off():
    bias = FRAME["model.bias"].map({"on": True, "off": False, "auto": "auto"})
    words = FRAME.assign(**{"model.bias": bias, "model.affine": FRAME["model.affine"].astype(str)})
    assert effects.effects_table(words).equals(effects.effects_table(FRAME))


def test_a_missing_net_leaves_no_verdict_and_a_diverged_one_counts_as_chance():
    one = (FRAME["variant"] == "bn") & (FRAME["seed"] == 2) & (FRAME["model.activation"] == "relu")
    one &= (FRAME["model.placement"] == "after") & FRAME["model.affine"] & (FRAME["model.bias"] == "on")
    table = effects.effects_table(FRAME[~one]).set_index("activation")
    assert table.loc["relu", "value"].isna().all()
    assert table.loc["relu", "p_holm"].isna().all()
    assert table.loc["sigmoid", "p_holm"].notna().all()
    lost = effects.cells(FRAME.assign(value=FRAME["value"].mask(one)))
    assert lost.loc[("relu", 2), ("after", "True", "on")] == 0.1


def test_the_figure_has_a_row_per_activation_and_fills_only_the_clear_dots():
    made = list(figures.published(FRAME))
    assert [stem for stem, _ in made] == ["placement", "placement", "placement_minus_baseline"]
    left, right, *_ = made[0][1].axes
    assert len(made[0][1].axes) == 4
    assert len(left.get_yticklabels()) == 6
    assert len(right.get_yticklabels()) == 8
    open_dots, filled = (line for line in left.lines if line.get_marker() == "o")
    assert len(np.asarray(open_dots.get_ydata())) == 6
    assert len(np.asarray(filled.get_ydata())) == 4


def test_a_factorial_without_one_of_its_factors_says_which():
    with pytest.raises(tidy.MissingData, match=r"model\.affine"):
        effects.cells(FRAME.drop(columns="model.affine"))
    with pytest.raises(tidy.MissingData, match="baseline"):
        effects.gains_table(FRAME.query("variant == 'bn'"))
