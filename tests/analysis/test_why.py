"""Why it works: averages, tables, verdicts and figures, on made-up diagnostics."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import synthetic

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report
from bnrepro.analysis.claims import RULES, jacobian
from bnrepro.analysis.effects import why
from bnrepro.analysis.figures import why as figures
from bnrepro.analysis.figures.why import LOOKS

STEPS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500, 2000]


def frame(
    seeds: int = 6, nearer: str = "bn", depths=(3, 6, 10), activations=("sigmoid", "relu")
) -> pd.DataFrame:
    """Diagnostics in which `nearer` has singular values nearer 1, and BN shifts ten times as far."""
    rows = []
    nets = [(arm, activation, depth) for arm in LOOKS for activation in activations for depth in depths]
    for (arm, activation, depth), seed in product(nets, range(seeds)):
        random = np.random.default_rng([seed, depth, list(LOOKS).index(arm), len(activation)])
        bn = arm != "baseline"
        where = {"variant": arm, "model.activation": activation, "model.depth": depth, "seed": seed}
        for step in STEPS:
            t, noise = step / STEPS[-1], np.exp(random.normal(0, 0.1, 12))
            values = {"test/accuracy": 0.1 + 0.8 * t}
            loss = 2.3 * np.exp(-(4 if bn else 2) * t)
            spread = loss * (0.1 if bn else 0.4)
            values |= {"landscape/loss": loss, "landscape/loss_low": loss - spread}
            values |= {"landscape/loss_high": loss + spread * noise[0], "landscape/gradient_norm": noise[1]}
            values |= {
                "landscape/gradient_change": (1 if bn else 4) * noise[2],
                "landscape/smoothness": 9 * noise[3],
            }
            for k in range(1, depth + 2):
                layer, fade = f"hidden{k}" if k <= depth else "classifier", 0.0 if bn else depth - k
                values[f"gradient/{layer}/norm"] = noise[4] * 10 ** (-0.5 * fade)
                if k > 1:
                    for family in ("ics", "ics_next"):
                        values[f"{family}/{layer}/l2"] = noise[5] * (1.0 if bn else 0.1) * 10 ** (-0.5 * fade)
                        values[f"{family}/{layer}/cosine"] = (0.7 if bn else 0.9) + 0.1 * t
                if k > depth:
                    continue
                values[f"units/{layer}/saturated"] = np.clip(0.1 * k * (0.3 if bn else 1) * noise[6], 0, 1)
                values[f"units/{layer}/dead"] = 0.01 * k
                if k > 1:
                    for family in ("jacobian", "jacobian_linear"):
                        distance = (0.3 if arm.startswith(nearer) else 0.8) * noise[7]
                        values[f"{family}/{layer}/median"] = 10**-distance
                        values[f"{family}/{layer}/log_spread"] = 0.4 * noise[8]
                        values[f"{family}/{layer}/from_one"] = distance
                        values[f"{family}/{layer}/gain"] = 10**-distance
            rows += [{**where, "step": step, "name": name, "value": value} for name, value in values.items()]
    found = pd.DataFrame(rows)
    found.insert(0, "experiment", "why_it_works")
    settings = {"data.name": "mnist", "data.batch_size": 60, "train.steps": STEPS[-1], "optim.lr": 0.1}
    return found.assign(**settings, **{"data.holdout": 0, "model.init_std": 0.1, "regime": "why"})


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return frame()


def test_layers_are_numbered_and_the_classifier_comes_after_the_last_hidden_one(made):
    table = why.wide(made)
    shift = why.layers(table, "ics", "l2")
    assert shift.columns[shift.notna().any()].tolist() == list(range(2, 12))
    shallow = shift.xs(3, level="model.depth")
    expected = table.xs(3, level="model.depth")["ics/classifier/l2"]
    np.testing.assert_array_equal(shallow[4], expected)
    assert shallow[5].isna().all()


def test_an_average_over_training_weighs_a_step_by_the_training_it_stands_for(made):
    late = made["step"].where(made["name"] == "landscape/smoothness", -1) >= 1000
    early = (made["name"] == "landscape/smoothness") & (made["step"] < 1000)
    changed = made.assign(value=made["value"].mask(late, 3.0).mask(early, 1.0))
    average = why.over_training(why.wide(changed), why.LANDSCAPE["effective smoothness"])
    # 1 up to step 500, the line to 3 at step 1000, then 3: (500 * 1 + 500 * 2 + 1000 * 3) / 2000
    np.testing.assert_allclose(average, 2.25)
    assert len(average) == 3 * 2 * 3 * 6


def test_steps_without_a_number_are_left_out_and_a_run_without_any_has_no_verdict(made):
    name = (
        made["name"].str.fullmatch(r"ics/.*/cosine") & (made["variant"] == "bn") & (made["model.depth"] == 3)
    )
    once = why.wide(made.assign(value=made["value"].mask(name & (made["step"] == 100))))
    never = why.wide(made.assign(value=made["value"].mask(name & (made["seed"] == 0))))
    quantity = why.SHIFT["cosine of G and G'"]
    assert all(np.isfinite(effect.low) for _, effect, _ in why.compared(once, quantity))
    found = {cell: (effect, p) for cell, effect, p in why.compared(never, quantity)}
    assert np.isnan(found["relu", 3][0].low) and np.isnan(found["relu", 3][1])
    assert np.isfinite(found["relu", 6][0].low)


def test_ratios_are_paired_and_recover_what_was_put_in(made):
    found = {
        cell: effect
        for cell, effect, _ in why.compared(why.wide(made), why.LANDSCAPE["change of the gradient"])
    }
    assert set(found) == set(product(("sigmoid", "relu"), (3, 6, 10)))
    assert all(effect.value == pytest.approx(0.25, rel=0.1) and effect.high < 1 for effect in found.values())


def test_gradients_that_fade_towards_the_input_have_positive_decades(made):
    average = why.over_training(
        why.wide(made), why.LAYERS["gradient norm, log10 (last / second hidden layer)"]
    )
    for depth in (3, 6, 10):
        arms = average.xs(depth, level="model.depth").groupby("variant").mean()
        assert arms["baseline"] == pytest.approx(0.5 * (depth - 2))
        assert arms["bn"] == pytest.approx(0, abs=1e-9)


def test_a_net_that_diverged_counts_as_guessing_in_the_table_of_accuracies(made):
    lost = {
        "variant": "baseline",
        "model.activation": "relu",
        "model.depth": 10,
        "step": 7,
        "name": "diverged_at",
    }
    diverged = pd.DataFrame([{**lost, "seed": seed, "value": 7.0} for seed in range(6)])
    table = why.accuracy_table(pd.concat([made, diverged])).set_index(["activation", "depth", "arm"])["value"]
    assert table["relu", 10, "baseline"] == pytest.approx(0.1)
    assert table["relu", 10, "bn"] == pytest.approx(0.9)
    assert len(table) == 18


@pytest.mark.parametrize("quantities", [why.SHIFT, why.LANDSCAPE, why.LAYERS])
def test_a_table_has_a_row_per_quantity_arm_and_net_and_can_be_published(made, quantities):
    table = why.effects_table(made, quantities)
    assert len(table) == len(quantities) * 2 * 6
    spread = table["high"] - table["low"] > 1e-9  # none: the same difference in every seed
    tested = spread | (table["value"].abs() < 1e-9)  # equal arms have p = 1
    assert table["n"].eq(6).all() and spread.any()
    assert table["p_holm"].between(0, 1).tolist() == table["p_holm"].notna().tolist() == tested.tolist()
    markdown = report.effects_markdown(table).splitlines()
    assert len(markdown) == len(table) + 2
    assert {line.count("|") for line in markdown} == {8}


def test_singular_values_nearer_1_are_reproduced_for_the_right_arm_only(made):
    assert RULES["C15"].judge({"why_it_works": made}).verdict == "reproduced"
    other = RULES["C15"].judge({"why_it_works": frame(nearer="baseline")})
    assert (other.verdict, other.n) == ("not reproduced", 6)


def test_before_and_after_the_nonlinearity_are_cases_of_their_own(made):
    after = made["name"].str.match(r"jacobian/.*/from_one") & (made["variant"] == "bn")
    verdict = RULES["C15"].judge({"why_it_works": made.assign(value=made["value"].mask(after, 2.0))})
    assert verdict.verdict == "partly"
    assert verdict.note.count("fails") == 6
    assert verdict.note.count("depth") == 12


def test_more_shift_with_bn_is_not_called_less(made):
    assert jacobian.COVARIATE_SHIFT.judge({"why_it_works": made}).verdict == "not reproduced"
    swapped = made.replace({"variant": {"baseline": "bn", "bn": "baseline"}})
    assert jacobian.COVARIATE_SHIFT.judge({"why_it_works": swapped}).verdict == "reproduced"


def test_what_is_missing_is_named(made):
    with pytest.raises(tidy.MissingData, match="why_it_works"):
        RULES["C15"].judge({})
    with pytest.raises(tidy.MissingData, match="no variant named baseline"):
        RULES["C15"].judge({"why_it_works": made.query("variant != 'baseline'")})
    with pytest.raises(tidy.MissingData, match="no diagnostics"):
        why.wide(made.query("name == 'test/accuracy'"))
    with pytest.raises(tidy.MissingData, match=r"no column model\.activation"):
        why.wide(synthetic.figure1(steps=500))
    with pytest.raises(ValueError, match="several runs"):
        why.wide(pd.concat([made, made]))


def test_everything_published_is_drawn_with_every_arm_and_the_number_of_seeds():
    made = dict(figures.published(frame(seeds=2, depths=(3, 6), activations=("relu",))))
    drawn = {stem: figure for stem, figure in made.items() if not isinstance(figure, pd.DataFrame)}
    kinds = ("shift", "landscape", "jacobians", "by_layer")
    assert set(drawn) == {f"why_{kind}_relu" for kind in kinds}
    for figure in drawn.values():
        assert {t.get_text() for t in figure.legends[0].get_texts()} == {v["label"] for v in LOOKS.values()}
        assert "2 seeds" in figure.get_supxlabel()
        assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["3 hidden layers", "6 hidden layers"]


def test_a_nonlinearity_that_was_not_run_is_named(made):
    with pytest.raises(tidy.MissingData, match="tanh"):
        figures.shift(made, "tanh")
