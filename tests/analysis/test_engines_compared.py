import pytest
import synthetic

from bnrepro.analysis.effects.engines import comparison

FRAME = synthetic.figure1(seeds=6)


def test_equal_runs_have_no_difference_and_p_1():
    table = comparison(FRAME, FRAME)
    assert (table["value"] == 0).all() and (table["p_holm"].dropna() == 1).all()
    assert set(table["n"]) == {6}


def test_rounding_at_first_and_a_shift_at_the_end_are_told_apart():
    end = (
        (FRAME["name"] == "test/accuracy")
        & (FRAME["step"] == FRAME["step"].max())
        & (FRAME["variant"] == "bn")
    )
    early = (FRAME["name"] == "test/loss") & (FRAME["step"] == 10)
    noise = FRAME["seed"] * 1e-4
    other = FRAME.assign(value=FRAME["value"] * (1 + 1e-6 * early) + end * (0.01 + noise))
    table = comparison(FRAME, other).set_index(["arm", "quantity"])
    at_10 = table.loc[("bn", "loss at step 10, largest relative difference"), "value"]
    assert at_10 == pytest.approx(1e-6, rel=1e-3)
    means = table.filter(like="t-test", axis=0)
    assert means.loc["bn", "p_holm"].item() < 0.01 < means.loc["baseline", "p_holm"].item()


def test_other_runs_are_not_compared():
    with pytest.raises(ValueError, match="same runs"):
        comparison(FRAME, FRAME.query("seed != 3"))
