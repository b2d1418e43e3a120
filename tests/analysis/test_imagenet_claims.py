from itertools import product

import numpy as np
import pandas as pd
import pytest
import synthetic_imagenet as synthetic
import synthetic_study

from bnrepro.analysis import claims
from bnrepro.analysis.claims import RULES
from bnrepro.analysis.claims import imagenet as judges
from bnrepro.analysis.claims.rule import Verdict
from bnrepro.analysis.effects import imagenet as effects
from bnrepro.analysis.figures import imagenet as figures
from bnrepro.analysis.frame import MissingData

SEEDS = 6  # the fewest of which equal values, and a median, have a 95% interval
AS_PUBLISHED = synthetic.figure2(SEEDS)


def on(**nets: tuple[float, float, float]) -> dict[str, pd.DataFrame]:
    """Figure 2 with other (rate, steps to Inception's best, highest accuracy) for some nets."""
    return {"fig2_imagenet": synthetic.figure2(SEEDS, nets)}


@pytest.mark.parametrize("claim", ["C8", "C9", "C10", "C11"])
def test_each_claim_holds_for_results_like_the_paper_s(claim: str):
    verdict = RULES[claim].judge({"fig2_imagenet": AS_PUBLISHED})
    assert (verdict.verdict, verdict.n) == ("reproduced", SEEDS)


@pytest.mark.parametrize(
    ("judge", "net", "steps", "expected"),
    [
        (RULES["C8"].judge, "bn_baseline", 1900, "reproduced"),
        (RULES["C8"].judge, "bn_baseline", 2000, "inconclusive"),  # half is not less than half
        (RULES["C8"].judge, "bn_baseline", 3900, "not reproduced"),
        (RULES["C9"].judge, "bn_x5", 500, "reproduced"),
        (RULES["C9"].judge, "bn_x5", 600, "not reproduced"),
        (RULES["C9"].judge, "bn_x5", 2000, "not reproduced"),
    ],
)
def test_the_speed_up_is_graded_at_its_bounds(judge, net: str, steps: float, expected: str):
    verdict: Verdict = judge(on(**{net: (0.0015, steps, 0.64)}))
    assert verdict.verdict == expected
    assert verdict.effect == steps / 4000


@pytest.mark.parametrize("judge", [RULES["C8"].judge, RULES["C9"].judge])
def test_a_net_that_never_arrives_is_infinitely_slow(judge):
    verdict = judge(on(bn_baseline=(0.0015, np.inf, 0.5), bn_x5=(0.0075, np.inf, 0.5)))
    assert (verdict.verdict, verdict.effect) == ("not reproduced", np.inf)


def test_nets_that_are_lost_are_infinitely_slow_however_few_evaluations_they_had():
    bn = (AS_PUBLISHED["variant"] == "bn_baseline") & (AS_PUBLISHED["name"] == "test/accuracy")
    for step in (0, 100):
        lost = AS_PUBLISHED.assign(value=AS_PUBLISHED["value"].mask(bn & (AS_PUBLISHED["step"] > step)))
        verdict = RULES["C8"].judge({"fig2_imagenet": lost})
        assert (verdict.verdict, verdict.effect, verdict.low) == ("not reproduced", np.inf, np.inf)


def test_one_net_of_six_that_never_arrives_leaves_the_median_and_its_exact_interval():
    bn = (AS_PUBLISHED["variant"] == "bn_baseline") & (AS_PUBLISHED["name"] == "test/accuracy")
    lost = AS_PUBLISHED.assign(value=AS_PUBLISHED["value"].mask(bn & (AS_PUBLISHED["seed"] == 2)))
    ratio = effects.steps_ratio(lost, "bn_baseline")
    assert ratio.value == 1700 / 4000
    assert (ratio.low, ratio.high) == (1700 / 4000, np.inf)
    swapped = effects.steps_ratio(lost, "inception", "bn_baseline")
    assert (swapped.low, swapped.high) == (0.0, 4000 / 1700)


def test_what_other_nets_were_evaluated_at_says_nothing_about_inceptions_plateau():
    late = AS_PUBLISHED.query("variant == 'bn_x5' and step == 4000").assign(step=4400)
    rising = synthetic.figure2(SEEDS, level=False)
    assert effects.rise(pd.concat([rising, late], ignore_index=True)) == effects.rise(rising)


def test_while_inception_still_rises_its_best_is_no_target_and_the_cases_stay_open():
    frame = synthetic.figure2(SEEDS, level=False)
    assert effects.rise(AS_PUBLISHED) < judges.LEVEL < effects.rise(frame)
    verdicts = [RULES[claim].judge({"fig2_imagenet": frame}) for claim in ("C8", "C9", "C10")]
    assert [v.verdict for v in verdicts] == ["inconclusive"] * 3
    assert "Inception rises by +5" in verdicts[0].note


def test_bn_x30_must_both_start_slower_and_end_higher():
    faster = RULES["C10"].judge(on(bn_x30=(0.045, 100, 0.7)))
    lower = RULES["C10"].judge(on(bn_x30=(0.045, 400, 0.61)))
    neither = RULES["C10"].judge(on(bn_x30=(0.045, 100, 0.61)))
    assert [v.verdict for v in (faster, lower, neither)] == ["partly", "partly", "not reproduced"]
    lost = RULES["C10"].judge(on(bn_x5=(0.0075, np.inf, 0.5), bn_x30=(0.045, np.inf, 0.55)))
    assert lost.verdict == "inconclusive"  # higher, but no ratio of never to never
    assert lost.note.count("open") == 1


def test_sigmoids_must_train_with_bn_and_fail_without():
    assert RULES["C11"].judge(on(bn_x5_sigmoid=(0.0075, np.inf, 0.3))).verdict == "partly"
    assert RULES["C11"].judge(on(inception_sigmoid=(0.0015, np.inf, 0.58))).verdict == "partly"
    opposite = on(bn_x5_sigmoid=(0.0075, np.inf, 0.1), inception_sigmoid=(0.0015, np.inf, 0.58))
    assert RULES["C11"].judge(opposite).verdict == "not reproduced"


def test_both_sizes_are_judged_and_those_that_disagree_make_the_claim_partly_reproduced():
    slow = on(bn_baseline=(0.0015, np.inf, 0.5))["fig2_imagenet"]
    verdict = RULES["C8"].judge({"fig2_imagenet": AS_PUBLISHED, "fig2_imagenet_gpu": slow})
    assert verdict.verdict == "partly"
    assert "(CPU) 0.42" in verdict.note
    assert "(GPU) never" in verdict.note


def test_few_seeds_leave_a_median_open_and_a_size_without_the_net_is_not_judged():
    assert RULES["C8"].judge({"fig2_imagenet": AS_PUBLISHED.query("seed < 5")}).verdict == "inconclusive"
    less = AS_PUBLISHED.query("variant != 'bn_x30'")
    both = RULES["C10"].judge({"fig2_imagenet": AS_PUBLISHED, "fig2_imagenet_gpu": less})
    assert both == RULES["C10"].judge({"fig2_imagenet": AS_PUBLISHED})
    with pytest.raises(MissingData, match="no bn_x30"):
        RULES["C10"].judge({"fig2_imagenet": less})


def test_an_inception_that_does_not_train_sets_no_target():
    with pytest.raises(MissingData, match="twice chance"):
        RULES["C8"].judge({"fig2_imagenet": AS_PUBLISHED.assign(**{"data.num_classes": 2})})


@pytest.mark.parametrize("claim", judges.RULES)
def test_without_results_a_claim_is_not_tested(claim: str):
    with pytest.raises(MissingData, match="is not there"):
        RULES[claim].judge({})


def ablated(seeds: int = 3, noise: float = 0.001, **effects: float) -> Verdict:
    helps = {"add_shuffle": 0.01, "less_shuffle": 0.01} | effects
    return RULES["C13"].judge({"ablation_imagenet": synthetic.ablation(seeds, helps, noise)})


def test_the_changes_of_4_2_1_must_cost_less_than_a_point_and_shuffling_must_gain():
    assert ablated().verdict == "reproduced"
    costly = ablated(less_l2=-0.02)
    assert costly.verdict == "partly"
    assert costly.note.count("fails") == 1
    assert ablated(add_rate=-0.3, less_decay=-0.3).verdict == "reproduced"  # not part of the claim
    assert ablated(add_shuffle=-0.01, less_shuffle=-0.01).verdict == "partly"
    every = {f"{way}_{change}": -0.05 for way in ("add", "less") for change in (*judges.HARMLESS, "shuffle")}
    assert ablated(3, 0.001, **every).verdict == "not reproduced"


def test_a_cost_that_noise_could_hide_is_no_harmlessness():
    assert ablated(noise=0.02).verdict == "inconclusive"


def test_a_change_that_was_not_measured_leaves_the_claim_untested():
    frame = synthetic.ablation(3, {"add_shuffle": 0.01, "less_shuffle": 0.01}).query("variant != 'add_nolrn'")
    with pytest.raises(MissingData, match="not measured: no local response normalization, BN-Baseline with"):
        RULES["C13"].judge({"ablation_imagenet": frame})


def test_the_ensemble_must_beat_its_best_member_beyond_the_choice_of_images():
    verdict = RULES["C14"].judge({"fig4_ensemble": synthetic.ensemble(gain=0.05)})
    assert (verdict.verdict, verdict.n) == ("reproduced", 500)
    assert RULES["C14"].judge({"fig4_ensemble": synthetic.ensemble(gain=0.002)}).verdict == "inconclusive"
    assert RULES["C14"].judge({"fig4_ensemble": synthetic.ensemble(gain=-0.05)}).verdict == "not reproduced"


def test_top_5_counts_only_where_five_guesses_are_few():
    assert "top-5" not in RULES["C14"].judge({"fig4_ensemble": synthetic.ensemble(classes=10)}).note
    assert "top-5" in RULES["C14"].judge({"fig4_ensemble": synthetic.ensemble(classes=200)}).note


def mnist_multiples() -> pd.DataFrame:
    """Of one nonlinearity each: at 5 times the rate nets without BN guess."""
    rows = []
    for activation, arm, multiple, seed in product(
        ("sigmoid", "relu"), ("baseline", "bn"), (1.0, 5.0), range(20)
    ):
        where = {"model.activation": activation, "variant": arm, "optim.lr": 0.1, "optim.lr_scale": multiple}
        value = 0.1 if arm == "baseline" and multiple == 5 else 0.95
        rows.append({**where, "seed": seed, "step": 9, "name": "val/accuracy", "value": value})
    return synthetic_study.tidy(rows, "rate_multiples").assign(**{"model.init_std": 0.1})


def multiples(failing: dict[str, tuple[float, ...]], seeds: int = 6, accuracy: float = 0.12) -> pd.DataFrame:
    """Nets at multiples of a rate; those that `failing` names of each variant are lost, or guess."""
    rows = []
    for variant, lost in failing.items():
        for multiple, seed in product((1.0, 5.0, 10.0), range(seeds)):
            where = {
                "variant": variant,
                "optim.lr": 0.01,
                "optim.lr_scale": multiple,
                "seed": seed,
                "step": 9,
            }
            fails = multiple in lost
            value = 0.025 if fails else accuracy
            rows.append({**where, "name": "val/accuracy", "value": value})
            if fails and seed % 2:
                rows.append({**where, "step": 3, "name": "diverged_at", "value": 3.0})
    return synthetic_study.tidy(rows, "c7_inception").assign(**{"data.num_classes": 50})


def test_five_times_the_rate_is_judged_on_inception_by_nets_that_are_lost_or_guess():
    judge = RULES["C7-Inception"].judge
    assert (
        judge({"c7_inception": multiples({"inception": (5.0, 10.0), "bn_baseline": (10.0,)})}).verdict
        == "reproduced"
    )
    assert (
        judge({"c7_inception": multiples({"inception": (), "bn_baseline": (5.0,)})}).verdict
        == "not reproduced"
    )
    few = multiples({"inception": (5.0,), "bn_baseline": ()}, seeds=5)
    assert judge({"c7_inception": few}).verdict == "inconclusive"  # five of five do not exclude one half
    with pytest.raises(MissingData, match="no runs of bn_baseline at 5 times"):
        judge({"c7_inception": multiples({"inception": (5.0,)})})


def test_a_net_that_falls_short_at_every_lower_multiple_too_is_slow_and_not_failing():
    frame = multiples({"inception": (1.0,), "bn_baseline": ()}).query("name != 'diverged_at'")
    nets = effects.at_multiples(frame).query("variant == 'inception'")
    assert not nets["fails"].any()
    assert (
        effects.at_multiples(multiples({"inception": (1.0,)})).query("multiple == 1")["fails"].sum() == 3
    )  # lost ones


def test_a_claim_of_two_experiments_is_judged_on_those_that_were_run():
    frame = multiples({"inception": (5.0, 10.0), "bn_baseline": ()})
    alone = claims.whole("C7").judge({"c7_inception": frame})
    assert (alone.verdict, alone.cases) == ("reproduced", "2 hold")
    half = {"rate_multiples": mnist_multiples(), "c7_inception": frame.query("variant == 'inception'")}
    verdict = claims.whole("C7").judge(half)
    assert verdict.effect == RULES["C7"].judge(half).effect
    assert "not judged: no runs of bn_baseline at 5 times" in verdict.note
    with pytest.raises(MissingData, match="rate_multiples"):
        claims.whole("C7").judge({})


def test_bn_nets_at_multiples_are_judged_by_population_statistics():
    frame = multiples({"inception": (), "bn_baseline": ()})
    moving = frame.assign(value=frame["value"].mask(frame["variant"] == "bn_baseline", 0.02))  # they lag
    exact = frame[frame["variant"] == "bn_baseline"].assign(name="val/accuracy_population")
    both = pd.concat([moving, exact], ignore_index=True)
    accuracy = effects.at_multiples(both).groupby("variant")["accuracy"].mean()
    assert accuracy.round(6).to_dict() == {"bn_baseline": 0.12, "inception": 0.12}


def test_the_figure_of_multiples_has_a_cross_for_every_loss_that_was_not_finite():
    frame = multiples({"inception": (5.0, 10.0), "bn_baseline": (10.0,)})
    (_, figure), (_, table) = figures.published_multiples(frame)
    crosses = [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 9
    row = table.set_index(["net", "multiple"]).loc[("Inception", "5")]
    assert (row["loss not finite"], row["value"], row["n"]) == (3, 1.0, 6)
