import numpy as np
import pandas as pd
import pytest
import synthetic_more

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.claims import RULES
from bnrepro.analysis.effects import regularization as effects
from bnrepro.analysis.figures import regularization as figures


def judge(claim: str, **made: float):
    return RULES[claim].judge({"dropout_bn": synthetic_more.dropout_bn(**made)})


def test_dropout_can_go_where_removing_it_costs_less_than_the_margin_and_not_where_it_costs_more():
    assert judge("C12").verdict == "reproduced"
    assert judge("C12", cost=0.01).verdict == "not reproduced"
    assert judge("C12", cost=0.01).effect == pytest.approx(0.01, abs=1e-3)


def test_the_loss_is_judged_for_every_training_set_and_beside_the_loss_without_bn():
    note = judge("C12").note
    assert all(f"{images} training images" in note for images in ("1,000", "5,000", "50,000"))
    assert note.count("without BN +0.") == 6


def test_a_training_set_in_which_dropout_is_missed_makes_the_claim_partly_reproduced():
    frame = synthetic_more.dropout_bn()
    helped = (frame["variant"] == "bn") & (frame["data.examples"] == 1000) & (frame["model.dropout"] > 0)
    better = frame.assign(value=frame["value"] + 0.01 * helped)
    verdict = RULES["C12"].judge({"dropout_bn": better})
    assert verdict.verdict == "partly"
    assert "1,000 training images) +0.9" in verdict.note


def test_the_best_rate_is_chosen_on_other_images_than_it_is_judged_on():
    index = pd.MultiIndex.from_product([[0.0, 0.1, 0.2], range(3)], names=["rate", "seed"])
    test = pd.Series(0.9, index).where(index.get_level_values("rate") != 0.2, 0.99)  # luck on these images
    held = pd.Series(0.9, index).where(index.get_level_values("rate") != 0.1, 0.91)
    found = effects.removal(test, held)
    assert found.rate == 0.1
    assert found.best.tolist() == [0.9, 0.9, 0.9]
    assert effects.removal(test, test).rate == 0.2
    with pytest.raises(tidy.MissingData, match="dropout rate 0"):
        effects.removal(test.drop(index=0.0), held)


def test_the_two_regularize_more_than_either_only_if_the_gap_is_smaller_than_each():
    assert judge("C18").verdict == "reproduced"
    assert judge("C18", together=0.7).verdict == "not reproduced"


def test_a_smaller_gap_with_a_lower_test_accuracy_says_so():
    assert "(test accuracy -2." in judge("C18", tax=0.02).note
    assert "(test accuracy +1." in judge("C18", cost=0.02).note


def test_a_diverged_run_has_no_gap_and_no_verdict_is_built_on_it():
    frame = synthetic_more.dropout_bn()
    run = (frame["variant"] == "bn") & (frame["model.dropout"] == 0.5) & (frame["seed"] == 1)
    lost = frame.assign(value=frame["value"].mask(run & (frame["step"] > 0)))
    assert effects.measured(lost, "accuracy").loc[("sigmoid", 1000, 0.5, 1), "bn"] == 0.1
    assert np.isnan(effects.measured(lost, "gap").loc[("sigmoid", 1000, 0.5, 1), "bn"])
    assert RULES["C18"].judge({"dropout_bn": lost}).verdict == "inconclusive"


def test_the_whole_training_set_is_called_by_its_size():
    images = effects.measured(synthetic_more.dropout_bn(), "gap").index.get_level_values("images")
    assert sorted(set(images)) == [1000, 5000, 50_000]


def test_the_table_holds_every_contrast_for_every_training_set():
    table = effects.effects_table(synthetic_more.dropout_bn())
    assert len(table) == 2 * 3 * (2 + 2 * len(effects.CONTRASTS))
    few = table.query("nonlinearity == 'relu' and `training images` == '1,000' and quantity == 'gap'")
    row = few.query("comparison == 'both - BN alone'")
    assert row["value"].item() == pytest.approx(-0.03, abs=2e-3)
    assert table["p_holm"].between(0, 1).all()


def test_the_figure_has_accuracy_above_and_gap_below_for_every_training_set():
    (stem, figure), *tables = figures.published(synthetic_more.dropout_bn())
    assert stem == "dropout_bn"
    assert len(tables) == 1
    above = [ax for i, ax in enumerate(figure.axes) if i // 3 % 2 == 0]
    below = [ax for ax in figure.axes if ax not in above]
    assert [ax.get_title() for ax in above] == [
        f"{net}, {n} images" for net in ("sigmoid", "relu") for n in ("50,000", "5,000", "1,000")
    ]
    line = next(line for line in below[0].lines if line.get_label() == "with BN")
    assert np.asarray(line.get_ydata())[0] == pytest.approx(1.2, abs=0.1)
    assert "5 seeds" in figure.get_supxlabel()


def test_without_an_arm_there_is_nothing_to_judge():
    with pytest.raises(tidy.MissingData, match="baseline"):
        RULES["C12"].judge({"dropout_bn": synthetic_more.dropout_bn().query("variant == 'bn'")})
    with pytest.raises(tidy.MissingData, match="dropout_bn"):
        RULES["C18"].judge({})
