import numpy as np
import pandas as pd
import pytest
import synthetic_imagenet as synthetic
from matplotlib.colors import to_hex
from synthetic import ROOT

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report, statistics
from bnrepro.analysis.claims import imagenet as claims
from bnrepro.analysis.effects import depth
from bnrepro.analysis.effects import ensemble as ensembles
from bnrepro.analysis.effects import imagenet as effects
from bnrepro.analysis.effects.runs import compact
from bnrepro.analysis.figures import ablation, ensemble, imagenet
from bnrepro.analysis.figures import depth as drawn

PAPER = pd.read_csv(ROOT / "results" / "paper.csv")
FRAME = synthetic.figure2(probes=True)
MADE = list(imagenet.published(FRAME, "_gpu", PAPER))


def test_figure_3_has_the_steps_and_accuracies_put_in_beside_those_of_the_paper():
    table = MADE[1][1].set_index(["quantity", "net"])
    steps = table.loc["steps to Inception's best"]
    assert steps["value"].to_dict() == {
        effects.NETS[v]: arrives for v, (_, arrives, _) in synthetic.NETS.items()
    }
    assert steps["censored"].tolist() == [0, 0, 0, 0, 3, 3, 3]
    assert steps["paper"].tolist()[:5] == ["31,000,000", "13,300,000", "2,100,000", "2,700,000", "never"]
    assert table.loc[("the same / Inception's", "BN-x5"), "value"] == 200 / 4000
    assert table.loc[("the same / Inception's", "BN-Baseline"), "paper"] == "0.43"
    assert table.loc[("highest accuracy", "BN-x30"), "value"] == pytest.approx(0.7)
    assert table.loc[("highest accuracy", "BN-x30"), "paper"] == "74.80%"
    assert table.loc[("share of seeds that diverged", "Inception-x5"), "value"] == 1
    assert "never" in compact(MADE[1][1], "net", "quantity").loc["BN-x5-Sigmoid", "steps to Inception's best"]
    assert "72.20%" in report.effects_markdown(MADE[1][1])


def test_the_table_under_figure_2_counts_who_never_arrives_and_two_seeds_give_no_interval():
    table = MADE[-1][1].set_index("net")
    assert table["to all of it"].to_dict() == {
        "Inception": "1",
        "BN-Baseline": "0.42",
        "BN-x5": "0.05",
        "BN-x30": "0.10",
        **dict.fromkeys(("BN-x5-Sigmoid", "Inception-x5", "Inception-Sigmoid"), "never (3 of 3)"),
    }
    assert (
        table.loc["BN-x5", "the paper's, to all of it"] == "0.07"
        and table.loc["BN-x30", "final accuracy"] == "70.2%"
    )
    lead = 100 * (effects.final(FRAME)["bn_x30"] - effects.final(FRAME)["inception"]).mean()
    assert table.loc["BN-x30", "minus Inception's"].startswith(f"{lead:+.2f} points")
    assert table.loc["Inception", "minus Inception's"] == "–"
    slow = (FRAME["variant"] == "bn_x5") & (FRAME["seed"] == 1)
    spread = FRAME.assign(step=FRAME["step"].where(~slow, 2 * FRAME["step"]))
    for seeds, said in ((3, "0.06 ["), (2, "0.07")):
        row = effects.figure2_table(spread[spread["seed"] < seeds]).set_index("net").loc["BN-x5"]
        assert row["seeds"] == seeds and row["to all of it"].startswith(said)
    assert row["to all of it"] == "0.07" and "[" not in row["minus Inception's"]
    apart = FRAME.assign(seed=FRAME["seed"].where(FRAME["variant"] != "bn_x30", FRAME["seed"] + 9))
    alone = effects.figure2_table(apart).set_index("net").loc["BN-x30"]
    assert alone["to all of it"] == "–" == alone["minus Inception's"]
    loss = FRAME[(FRAME["name"] == "test/accuracy") & (FRAME["variant"] != "bn_x30")].assign(
        name="train/loss"
    )
    losses = effects.figure2_table(pd.concat([FRAME, loss.assign(value=0.5)])).set_index("net")[
        "final training loss"
    ]
    assert losses[["BN-x5", "BN-x30", "Inception-x5"]].tolist() == ["0.50", "–", "inf"]
    shown = report.effects_markdown(MADE[-1][1]).splitlines()
    assert shown[0].startswith("| net | seeds |") and len({line.count("|") for line in shown}) == 1


def test_the_speed_up_to_all_of_the_target_is_that_of_figure_3_and_nets_that_never_arrive_have_none_there():
    table = effects.speedups(FRAME).set_index(["share", "variant"])
    for net in ("bn_baseline", "bn_x5", "bn_x30"):
        found = table.loc[(1.0, net), ["value", "low", "high"]].astype(float)
        np.testing.assert_array_equal(found, effects.steps_ratio(FRAME, net)[:3])
    assert set(table.loc[1.0].index) == {"bn_baseline", "bn_x5", "bn_x30"}
    assert "bn_x5_sigmoid" in table.loc[0.3].index and "inception_sigmoid" not in table.loc[0.3].index


def test_the_final_accuracy_is_algorithm_2_s_with_bn_and_the_only_one_without_and_chance_after_divergence():
    final = effects.final(FRAME).groupby("variant").mean()
    assert final["bn_x5"] == pytest.approx(0.642)  # the moving averages give 0.64
    assert final["inception"] == pytest.approx(0.6)
    assert final["inception_x5"] == pytest.approx(0.1)
    late = (FRAME["name"] == "test/accuracy_population") & (FRAME["seed"] == 1)
    assert effects.final(FRAME[~late])["bn_x5"].isna().tolist() == [False, True, False]
    assert effects.final(FRAME, "top5")["inception_x5"].tolist() == [0.5] * 3


def test_chance_is_one_over_the_number_of_classes_and_all_classes_are_known_by_name():
    assert effects.chance(FRAME.assign(**{"data.num_classes": 4})) == 0.25
    assert effects.chance(FRAME.assign(**{"data.num_classes": 0, "data.name": "tiny_imagenet"})) == 1 / 200
    assert effects.chance(FRAME.assign(**{"data.num_classes": 0, "data.name": "shapes"})) == 1 / 10


def test_chance_on_a_folder_of_images_is_not_guessed():
    folder = FRAME.assign(**{"data.num_classes": 0, "data.name": "imagefolder"})
    with pytest.raises(tidy.MissingData, match=r"imagefolder .*data\.num_classes must be set"):
        effects.chance(folder)
    assert effects.chance(folder.assign(**{"data.classes": 37})) == 1 / 37
    with pytest.raises(tidy.MissingData, match=r"data\.num_classes must be set"):
        effects.chance(FRAME.drop(columns=["data.num_classes", "data.name"]))


def test_arms_are_paired_on_the_seeds_that_both_have():
    less = FRAME[~((FRAME["variant"] == "bn_x5") & (FRAME["seed"] == 2))]
    assert effects.steps_ratio(less, "bn_x5").n == 2
    assert effects.steps_ratio(less, "inception").value == 1
    with pytest.raises(tidy.MissingData, match="bn_x30"):
        effects.steps_ratio(FRAME[FRAME["variant"] != "bn_x30"], "bn_x30")
    with pytest.raises(tidy.MissingData, match="inception"):
        effects.target(FRAME[FRAME["variant"] != "inception"])


def test_figure_2_marks_each_net_where_it_reaches_the_target_and_each_divergence_with_a_cross():
    stems = [stem for stem, _ in MADE]
    assert stems == [
        "figure2_imagenet_gpu",
        "figure3_imagenet_gpu",
        "speedup_imagenet_gpu",
        "figure2_imagenet_gpu",
    ]
    left, right = MADE[0][1].axes
    shapes = {look["marker"]: variant for variant, look in imagenet.LOOKS.items()}
    marks = {shapes[m.get_marker()]: m.get_xydata()[0] for m in left.lines if m.get_marker() in shapes}
    assert {v: x for v, (x, _) in marks.items()} == {
        "inception": 4000, "bn_baseline": 1700, "bn_x5": 200, "bn_x30": 400,
    }  # fmt: skip
    np.testing.assert_allclose([y for _, y in marks.values()], 60)  # per cent
    crosses = [line.get_xydata()[0] for line in right.lines if line.get_marker() == "x"]
    assert [tuple(c) for c in crosses] == [(300, 10), (301, 10), (302, 10)]
    named = {effects.NETS[v] for v in marks} | {"BN-x5-Sigmoid", "Inception's best, 60.0%"}
    assert {t.get_text() for t in left.texts} == named
    assert {t.get_text() for t in right.texts} == {"Inception-x5", "Inception-Sigmoid"}


def test_captions_say_how_many_seeds_each_net_has_and_two_seeds_draw_no_interval():
    few = FRAME[(FRAME["seed"] < 2) | (FRAME["variant"] == "bn_baseline")]
    figure, _, ratios, _ = (what for _, what in imagenet.published(few))
    assert imagenet.counted(few) == "2 to 3 seeds" and imagenet.counted(FRAME) == "3 seeds"
    assert imagenet.counted(FRAME[FRAME["seed"] == 0]) == "1 seed"
    assert "Mean of 2 to 3 seeds" in " ".join(t.get_text() for t in figure.texts)
    bands = [band.get_paths() for band in ratios.axes[0].collections]
    assert not any(bands), "all pairs with Inception are two"
    said = " ".join(" ".join(t.get_text() for t in ratios.texts).split())
    assert "no interval (not of fewer than 3 seeds)" in said
    assert any(band.get_paths() for band in MADE[2][1].axes[0].collections)


def test_captions_say_the_length_of_all_nets_and_which_never_arrive_in_it():
    short = FRAME["variant"] == "bn_x30"
    frame = FRAME.assign(**{"train.steps": np.where(short, 400, 4000)})
    assert "400 to 4,000 steps" in imagenet.described(frame)
    said = " ".join(t.get_text() for t in imagenet.figure2(frame[(frame["step"] <= 300) | ~short]).texts)
    assert "BN-x30 not in 300 (3 of 3 seeds)" in " ".join(said.split()) and "BN-x5 200," in said


def test_figure_2_names_only_the_kinds_of_failure_that_it_shows():
    sigmoid = FRAME[FRAME["variant"] != "inception_x5"]
    below = imagenet.figure2(sigmoid).axes[1]
    assert below.get_title() == "(b) without BN, with sigmoids"
    assert "not finite" not in " ".join(t.get_text() for t in below.figure.texts)


def test_without_the_nets_that_fail_and_without_probes_figure_2_has_one_panel_and_stands_alone():
    few = synthetic.figure2(seeds=1).query("variant in ('inception', 'bn_baseline')")
    made = list(imagenet.published(few.drop(columns=["data.num_classes", "data.size"])))
    stems = ["figure2_imagenet", "figure3_imagenet", "speedup_imagenet", "figure2_imagenet"]
    assert [stem for stem, _ in made] == stems
    assert len(made[0][1].axes) == 1


def test_no_two_looks_share_a_colour_or_a_shape_and_labels_never_touch():
    colours, shapes = (
        {to_hex(look["color"]) for look in imagenet.LOOKS.values()},
        {look["marker"] for look in imagenet.LOOKS.values()},
    )
    assert len(colours) == len(shapes) == len(effects.NETS)
    moved = imagenet.spread({"a": 1.0, "b": 1.1, "c": 9.0, "d": 0.9}, gap=1.0)
    assert np.diff(sorted(moved.values())).min() >= 1 - 1e-9
    assert sorted(moved, key=moved.get) == ["d", "a", "b", "c"]


def test_inputs_are_in_order_of_depth_and_wander_more_without_bn():
    table = depth.percentiles(FRAME)
    assert list(table.index.levels[1]) == synthetic.BLOCKS
    drift = (
        depth.drift(depth.percentiles(FRAME, "typical")).groupby(["variant", "block"], observed=True).mean()
    )
    assert (drift["inception"] > 2 * drift["bn_x5"]).all()
    assert "inception_x5" not in drift  # one measured step before it diverged
    ((_, figure),) = drawn.published(FRAME, "_gpu")
    panels = figure.axes
    assert len(panels) == len(effects.NETS) + 1
    assert [t.get_text() for t in panels[0].get_xticklabels()] == synthetic.BLOCKS
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_the_ablation_finds_what_was_put_in_with_its_sign_and_ignores_unknown_variants():
    put_in = {"add_rate": 0.04, "less_rate": 0.05, "add_l2": -0.03, "less_distort": -0.02}
    frame = synthetic.ablation(seeds=6, effects=put_in)
    table = effects.ablation_table(frame)
    assert len(table) == 14
    found = dict(zip(effects.ablation(frame), table.to_dict("records"), strict=True))
    for way, change in found:
        expected = put_in.get(f"{way}_{change}", 0.0)
        assert found[way, change]["value"] == pytest.approx(expected, abs=0.003)
        assert (found[way, change]["p_holm"] < 0.05) == (expected != 0)


def test_the_forest_plot_shows_what_is_there_on_the_seeds_that_are_paired():
    frame = synthetic.ablation(seeds=3).query(
        "variant != 'less_l2' and not (variant == 'add_l2' and seed == 2)"
    )
    stems, (figure, table) = zip(*ablation.published(frame), strict=True)
    assert stems == ("ablation_imagenet", "ablation_imagenet")
    assert (
        table.set_index(["change", "effect"]).loc[("L2 weight / 5", "BN-Baseline with - without"), "n"] == 2
    )
    left, right = figure.axes
    assert len(left.texts) == 7
    assert len(right.texts) == 6
    assert "2 to 3 paired seeds" in figure.get_supxlabel()


def test_the_forest_plot_has_no_panel_for_a_direction_that_was_not_measured():
    frame = synthetic.ablation(seeds=3)
    taken = frame[frame["variant"].eq("bn_x5") | frame["variant"].str.startswith("less_")]
    (panel,) = ablation.ablation(taken).axes
    assert panel.get_title("left") == "BN-x5 with - without"
    assert len(panel.texts) == 7


def test_the_ensemble_is_compared_image_by_image_with_the_mean_and_the_best_member():
    frame = synthetic.ensemble(gain=0.05)
    table = ensembles.errors(frame, "correct/single")
    assert ensembles.members(table) == [f"ens{i}" for i in range(1, 7)]
    found = ensembles.against(frame, "correct/single")
    assert found["ensemble - best member"].value == pytest.approx(-0.05)
    assert found["ensemble - mean member"].value < -0.05
    assert found["ensemble - best member"].n == 500
    shuffled = frame.sample(frac=1, random_state=0)
    assert ensembles.effects_table(shuffled, PAPER).equals(ensembles.effects_table(frame, PAPER))
    with pytest.raises(ValueError, match="every image"):
        ensembles.errors(frame.drop(index=frame.index[0]), "correct/single")


def test_the_error_of_several_ensembles_is_as_uncertain_as_their_nets_and_images():
    frame, one = synthetic.ensembles((0.01, 0.05, 0.09)), synthetic.ensemble(gain=0.05)
    table = ensembles.effects_table(frame).set_index(["quantity", "net"])
    row = table.loc[("top-1 error, single crop", "ensemble")]
    means = [1 - rows["value"].mean() for _, rows in _judged(frame).groupby("seed")]
    assert row["value"] == pytest.approx(np.mean(means)) and row["n"] == 500
    low, high = statistics.t_bounds(np.array(means))
    assert row["high"] - row["low"] > high - low > 0
    alone = ensembles.levels(one, "correct/single")["ensemble"]
    assert alone == statistics.estimate(ensembles.errors(one, "correct/single")["ensemble"])


def _judged(frame):
    return frame[(frame["variant"] == "ensemble") & (frame["name"] == "correct/single")]


def test_figure_4_has_a_row_per_metric_and_the_published_errors_in_its_table():
    (_, figure), (_, table) = ensemble.published(synthetic.ensemble(), PAPER)
    assert len(figure.axes) == 4
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][-1] == "ensemble"
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == ["mean member", "best member"]
    said = table.set_index(["quantity", "net"])["paper"]
    assert said["top-1 error, single crop", "mean member"] == "25.20%"
    assert said["top-1 error, 10 crops", "ensemble"] == "–"  # the paper has one crop, and 144
    assert said["top-5 error, single crop", "mean member"] == "7.82%"
    few = synthetic.ensemble().query("name == 'correct/single'")
    assert len(next(ensemble.published(few))[1].axes) == 2


def test_curves_are_with_population_statistics_where_every_evaluation_has_them():
    accuracy = FRAME["name"] == "test/accuracy"
    bn = FRAME["variant"].str.startswith("bn") & accuracy & (FRAME["step"] < synthetic.STEPS)
    better = FRAME[bn].assign(name="test/accuracy_population", value=FRAME["value"] + 0.02)
    frame = pd.concat([FRAME, better], ignore_index=True)
    gain = effects.highest(frame) - effects.highest(FRAME)
    assert gain["inception"].tolist() == [0.0] * 3
    assert gain["bn_x5_sigmoid"].min() > 0.01
    assert imagenet.normalized_by(frame) == "population statistics"
    assert imagenet.normalized_by(FRAME) == "moving averages"  # measured at the last step only
    lacking = frame.drop(
        index=frame.index[(frame["name"] == "test/accuracy_population") & (frame["step"] == 100)]
    )
    assert effects.highest(lacking).equals(effects.highest(FRAME))
    assert effects.by_population(effects.by_population(frame)).equals(effects.by_population(frame))


def test_of_several_ensembles_the_interval_covers_their_networks_and_the_best_is_chosen_on_held_out_images():
    name = "correct/single"
    frame = synthetic.ensembles((0.05, 0.05, 0.05))
    assert set(ensembles.best_members(frame, name).values()) == {"ens2"}
    alike = ensembles.against(frame, name)["ensemble - mean member"]
    unlike = ensembles.against(synthetic.ensembles((0.02, 0.05, 0.2)), name)["ensemble - mean member"]
    assert (alike.n, unlike.n) == (3, 3)
    assert unlike.high - unlike.low > 3 * (alike.high - alike.low)
    one = synthetic.ensembles((0.05,), held_out=False)
    assert ensembles.against(one, name)["ensemble - best member"].n == 500
    (_, figure), (_, table) = ensemble.published(frame, PAPER)
    assert "held out for this choice" in figure._supxlabel.get_text()
    assert set(table["n"]) == {500}
    assert "best member (ens2, ens2, ens2)" in " ".join(table["net"])


def test_a_net_that_diverges_before_its_first_evaluation_is_named_all_the_same():
    accuracies = FRAME["name"].str.contains("accuracy") & (FRAME["step"] > 0)
    lost = FRAME.assign(value=FRAME["value"].mask(accuracies & (FRAME["variant"] == "inception_x5")))
    assert "Inception-x5" in {t.get_text() for t in imagenet.figure2(lost).axes[1].texts}


def test_the_caption_says_where_inception_still_rises_by_as_much_as_the_rules_count():
    assert imagenet.LEVEL == claims.LEVEL
    rising = imagenet.figure2(synthetic.figure2(level=False)).get_supxlabel()
    assert "Inception still rises, by" in " ".join(rising.split())
    assert "still rises" not in " ".join(imagenet.figure2(FRAME).get_supxlabel().split())
