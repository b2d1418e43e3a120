import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bnrepro.analysis import collect, report, statistics
from bnrepro.analysis import frame as tidy
from bnrepro.config.address import place
from bnrepro.config.compose import jobs

numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12)


def curve(variant: str, seed: int, values: list[float], every: int = 10) -> pd.DataFrame:
    rows = {"step": np.arange(len(values)) * every, "value": values}
    return pd.DataFrame(rows).assign(experiment="e", variant=variant, seed=seed, name="test/accuracy")


# --- runs on disk -> frame


def test_collected_values_are_the_recorded_ones_to_the_last_bit(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a")
    frame = collect.collect(tmp_path / "e").frame
    assert frame.query("seed == 1 and step == 10")["value"].item() == 0.1 + 0.2 / 3 * 10
    assert set(frame["variant"]) == {"bn"}
    assert {"optim.lr", "model.init_std", "data.batch_size", "regime"} <= set(frame.columns)


def test_every_hyperparameter_is_a_column_and_what_names_a_machine_is_none(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a", lr=0.1)
    synthetic.write_run(tmp_path / "e/bn/b", lr=0.5)
    frame, provenance, _ = collect.collect(tmp_path / "e")
    assert sorted(frame["optim.lr"].unique()) == [0.1, 0.5]
    assert set(frame["model.width"]) == {100}
    assert not {"output", "data.root", "train.device", "record.wandb", "seeds"} & set(frame.columns)
    assert "somewhere" not in json.dumps(provenance)
    assert [(p["run"], p["provenance"]["commit"]) for p in provenance] == [
        ("e/bn/a", "1a2b3c"),
        ("e/bn/b", "1a2b3c"),
    ]


def test_unfinished_runs_are_skipped_and_named(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a")
    synthetic.write_run(tmp_path / "e/bn/b", lr=0.5, state="interrupted")
    (synthetic.write_run(tmp_path / "e/bn/c", lr=2.0) / "run.json").write_text("{")
    frame, _, unfinished = collect.collect(tmp_path / "e")
    assert unfinished == ["e/bn/b (interrupted)", "e/bn/c (no readable run.json)"]
    assert set(frame["optim.lr"]) == {0.1}


def test_the_finished_seeds_of_a_run_that_goes_on_are_collected_and_the_others_are_not(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a", state="running", finished=[1])
    frame, provenance, unfinished = collect.collect(tmp_path / "e")
    assert set(frame["seed"]) == {1} and provenance[0]["seeds"] == [1]
    assert unfinished == ["e/bn/a (running; its finished seeds are taken: 1)"]


def test_a_finished_run_of_a_version_that_told_no_seeds_apart_is_collected_whole(tmp_path):
    status = synthetic.write_run(tmp_path / "e/bn/a") / "run.json"
    status.write_text(json.dumps({"state": "finished", "provenance": {"commit": "1a2b3c"}}))
    frame, provenance, _ = collect.collect(tmp_path / "e")
    assert set(frame["seed"]) == {0, 1} and provenance[0]["seeds"] == [0, 1]


def test_nothing_finished_is_missing_data(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a", state="failed")
    with pytest.raises(tidy.MissingData, match=r"no finished run .*e/bn/a \(failed\)"):
        collect.collect(tmp_path / "e")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("0,0,test/acuracy,0.1\n", r"metric 'test/acuracy' is not declared in bnrepro/measure/metrics\.py"),
        ("0,0,test/accuracy\nx,y,z,w\n", "not a readable table"),
    ],
)
def test_an_undeclared_name_or_a_broken_table_is_refused_with_its_file(tmp_path, table, message):
    synthetic.write_run(tmp_path / "e/bn/a", table=table)
    with pytest.raises(ValueError, match=rf"table\.csv: {message}"):
        collect.collect(tmp_path / "e")


def test_one_seed_measured_twice_with_the_same_hyperparameters_is_refused(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a")
    synthetic.write_run(tmp_path / "e/bn/b")
    with pytest.raises(ValueError, match="twice, in e/bn/a, e/bn/b"):
        collect.collect(tmp_path / "e")


def test_a_saved_frame_loads_unchanged_and_leaves_no_partial_file(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a")
    collected = collect.collect(tmp_path / "e")
    collect.save(collected, tmp_path / "results" / "e")
    pd.testing.assert_frame_equal(tidy.load(tmp_path / "results" / "e.parquet"), collected.frame)
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["e.json", "e.parquet"]


def test_what_is_added_seed_by_seed_and_run_by_run_is_what_is_collected_at_once(tmp_path, capsys):
    everything = ("--all", "--outputs", tmp_path / "whole", "--results", tmp_path / "at once")
    for lr in (0.1, 0.5):
        synthetic.write_run(tmp_path / f"whole/e/bn/lr{lr}", lr=lr)
    assert synthetic.run_script("collect.py", "e", *everything) == 0
    for part, (lr, state, seeds) in enumerate(
        [(0.1, "running", [0]), (0.5, "finished", [0, 1]), (0.1, "running", [1]), (0.5, "running", [0])]
    ):
        synthetic.write_run(tmp_path / f"{part}/e/bn/lr{lr}", lr=lr, state=state, finished=seeds)
        parts = ("--all", "--outputs", tmp_path / str(part), "--results", tmp_path / "in parts")
        assert synthetic.run_script("collect.py", "e", *parts, *(["--add"] if part else [])) == 0
    frames = [tidy.load(tmp_path / where / "e.parquet") for where in ("at once", "in parts")]
    by = ["optim.lr", "seed", "step", "name"]
    pd.testing.assert_frame_equal(*(each.sort_values(by, ignore_index=True) for each in frames))
    provenance = json.loads((tmp_path / "in parts/e.json").read_text())
    assert [(run["config"]["optim.lr"], run["seeds"]) for run in provenance] == [
        (0.1, [0]),
        (0.5, [1]),
        (0.1, [1]),
        (0.5, [0]),
    ]


def test_a_table_loses_no_run_and_no_seed_unless_that_is_asked_for(tmp_path, capsys):
    for lr in (0.1, 0.5):
        synthetic.write_run(tmp_path / f"both/e/bn/lr{lr}", lr=lr)
    synthetic.write_run(tmp_path / "one/e/bn/lr0.1", lr=0.1)
    synthetic.write_run(tmp_path / "less/e/bn/lr0.1", lr=0.1, state="running", finished=[0])
    synthetic.write_run(tmp_path / "less/e/bn/lr0.5", lr=0.5)

    def collected(outputs, *more):
        words = ("--all", "--outputs", tmp_path / outputs, "--results", tmp_path / "results", *more)
        return synthetic.run_script("collect.py", "e", *words), capsys.readouterr().err

    assert collected("both")[0] == collected("both")[0] == 0
    whole = (tmp_path / "results/e.parquet").read_bytes()
    for outputs, lost in (("one", "e/bn/lr0.5"), ("less", "e/bn/lr0.1")):
        status, said = collected(outputs)
        assert status == 1 and lost in said and "--add keeps them" in said
        assert (tmp_path / "results/e.parquet").read_bytes() == whole
    assert collected("one", "--add")[0] == 0
    assert len(tidy.load(tmp_path / "results/e.parquet")["optim.lr"].unique()) == 2
    assert collected("one", "--replace")[0] == 0
    assert len(tidy.load(tmp_path / "results/e.parquet")["optim.lr"].unique()) == 1


@pytest.mark.parametrize(
    "words", [["e/"], ["outputs/e"], ["e", "--into", "a/b"], ["e", "--add", "--replace"]]
)
def test_a_path_for_a_name_and_two_contrary_wishes_are_refused(words, capsys):
    with pytest.raises(SystemExit) as refused:
        synthetic.run_script("collect.py", *words)
    assert refused.value.code == 2
    assert re.search("without a path|not allowed with", capsys.readouterr().err)


def test_a_folder_that_is_not_there_is_named_with_the_nearest(tmp_path, capsys):
    synthetic.write_run(tmp_path / "outputs/widths/bn/a")
    words = ("--outputs", tmp_path / "outputs", "--results", tmp_path / "results")
    assert synthetic.run_script("collect.py", "width", *words) == 1
    assert "there is no folder" in (said := capsys.readouterr().err) and "did you mean widths?" in said


def test_a_table_of_before_a_setting_was_there_has_its_default_when_seeds_are_added(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a", state="running", finished=[0])
    found = collect.collect(tmp_path / "e")
    collect.save(found._replace(frame=found.frame.assign(seed=7)), tmp_path / "results/e")
    later = found._replace(frame=found.frame.assign(**{"optim.decay_times": 6.0}))
    both = collect.added(later, tmp_path / "results/e").frame
    assert both.groupby("seed")["optim.decay_times"].first().to_dict() == {0: 6.0, 7: 1.0}


def test_runs_of_two_versions_in_one_table_are_told_apart_by_their_settings_and_not_by_their_age(tmp_path):
    synthetic.write_run(tmp_path / "e/bn/a", state="running", finished=[0])
    found = collect.collect(tmp_path / "e")
    mixed = found.frame.assign(**{"eval.first": np.nan}), found.frame.assign(variant="baseline")
    old = found.provenance[0] | {"config": {"optim.lr": 0.1}}
    notes = [found.provenance[0] | {"config": found.provenance[0]["config"] | old["config"]}]
    collect.save(found._replace(frame=pd.concat(mixed), provenance=notes), tmp_path / "results/e")
    again = collect.added(found, tmp_path / "results/e")
    assert again.frame["variant"].value_counts().to_dict() == {"bn": 2, "baseline": 2}
    assert len(again.provenance) == 1 and again.frame["eval.first"].tolist() == [0] * 4


def test_nothing_is_added_to_a_table_that_is_not_there_or_has_other_settings(tmp_path, capsys):
    synthetic.write_run(tmp_path / "e/bn/a")
    parts = ("--all", "--add", "--outputs", tmp_path, "--results", tmp_path / "results")
    assert synthetic.run_script("collect.py", "e", *parts) == 1
    assert "nothing to add to" in capsys.readouterr().err
    found = collect.collect(tmp_path / "e")
    older = found._replace(frame=found.frame.drop(columns="model.width"))
    before = [path.read_bytes() for path in collect.save(older, tmp_path / "results/e")]
    assert synthetic.run_script("collect.py", "e", *parts) == 1
    assert "(model.width)" in capsys.readouterr().err
    assert before == [path.read_bytes() for path in sorted((tmp_path / "results").iterdir(), reverse=True)]


def test_a_missing_file_and_an_untidy_one_are_told_apart(tmp_path):
    with pytest.raises(tidy.MissingData, match=r"collect\.py"):
        tidy.load(tmp_path / "x.parquet")
    pd.DataFrame({"step": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no column experiment"):
        tidy.load(tmp_path / "x.parquet")


def test_the_collect_script_refuses_in_one_line_when_there_is_nothing_to_collect(tmp_path, capsys):
    folders = ("--outputs", tmp_path, "--results", tmp_path / "results")
    assert synthetic.run_script("collect.py", "nothing", *folders) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_runs_that_are_left_out_are_counted_and_a_folder_that_is_taken_whole_has_none(tmp_path, capsys):
    outputs = ("--outputs", tmp_path / "runs", "--results", tmp_path / "results")
    for lr, cfg in enumerate(jobs(["experiment=fig1_quick"]), 1):
        synthetic.write_run(place(tmp_path / "runs", cfg), lr=lr)
    (synthetic.write_run(tmp_path / "runs/fig1_quick/bn/other", lr=9) / "run.json").write_text("{")
    (tmp_path / "elsewhere").mkdir()
    (synthetic.write_run(tmp_path / "elsewhere/bn/c") / "run.json").write_text("{")
    assert synthetic.run_script("collect.py", "fig1_quick", *outputs) == 0
    assert "1 run with other settings is left out" in capsys.readouterr().err
    assert synthetic.run_script("collect.py", "fig1_quick", "--all", *outputs) == 0
    assert "left out" not in capsys.readouterr().err
    synthetic.write_run(tmp_path / "runs/mine/bn/a")
    assert synthetic.run_script("collect.py", "mine", *outputs) == 0
    assert "left out" not in capsys.readouterr().err


# --- statistics


def test_steps_to_finds_the_first_step_and_censors_instead_of_dropping():
    frame = pd.concat([curve("bn", 0, [0.9, 0.2, 0.6, 0.5]), curve("bn", 1, [0.1, 0.2, np.nan, 0.4])])
    found = tidy.steps_to(frame, 0.5)
    assert found["steps"].tolist() == [20, np.inf]  # step 0 is not training
    assert found["censored"].tolist() == [False, True]
    assert found["budget"].tolist() == [30, 30]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25)
def test_a_higher_target_never_takes_fewer_steps(values, a, b):
    frame = curve("bn", 0, values)
    low, high = (tidy.steps_to(frame, target)["steps"].item() for target in sorted((a, b)))
    assert low <= high


def test_the_target_of_each_pair_is_that_seeds_own_baseline_best():
    arms = [curve("baseline", 0, [0.1, 0.5, 0.4]), curve("baseline", 1, [0.1, 0.7, 0.8])]
    frame = pd.concat([*arms, curve("bn", 0, [0.1, 0.6, 0.6]), curve("bn", 1, [0.1, 0.6, 0.7])])
    found = tidy.steps_to(frame, tidy.baseline_best(frame)).set_index(["variant", "seed"])
    assert found.loc[("bn", 0), "steps"] == 10
    assert found.loc["baseline", "steps"].tolist() == [10, 20]
    assert found.loc[("bn", 1), "censored"]


def test_several_runs_of_one_seed_must_be_told_apart_by_the_caller():
    with pytest.raises(ValueError, match=r"select one with frame\.query"):
        tidy.steps_to(pd.concat([curve("bn", 0, [0.1, 0.2])] * 2), 0.5)


@given(pairs)
@settings(max_examples=40)
def test_a_paired_interval_is_that_of_the_differences_and_turns_round_with_the_arms(values):
    a, b = np.array(values).T
    there, back = statistics.compared(a, b), statistics.compared(b, a)
    np.testing.assert_allclose(there[:3], statistics.estimate(a - b)[:3], atol=1e-12)
    np.testing.assert_allclose(there[:3], [-back.value, -back.high, -back.low], atol=1e-9)
    assert there.n == len(a)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_an_interval_leaves_zero_out_where_its_test_rejects(values):
    interval, p = statistics.estimate(values), statistics.p_value(values)
    if np.ptp(values) > 1e-6 and abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (interval.low > 0 or interval.high < 0)


@given(st.integers(1, 40))
def test_a_median_lies_between_the_narrowest_two_values_that_cover_95_percent(n):
    low, high = statistics.order_bounds(np.arange(n))
    if n < 6:
        assert np.isnan(low)  # even the lowest and the highest cover less
        return
    k = int(low)  # values outside on either side
    assert low + high == n - 1
    assert 2 * binom.cdf(k, n, 0.5) <= 0.05 < 2 * binom.cdf(k + 1, n, 0.5)


def test_a_share_has_an_exact_interval_that_never_claims_certainty():
    assert statistics.share(5, 5)[:3] == pytest.approx((1.0, 0.478, 1.0), abs=1e-3)
    assert statistics.share(0, 20)[:3] == pytest.approx((0.0, 0.0, 0.168), abs=1e-3)


def test_pairing_removes_what_seeds_share():
    shared = np.random.default_rng(0).normal(0, 10, 8)
    gain = statistics.compared(shared + 1 + np.arange(8) / 100, shared)
    assert 1 < gain.low < gain.high < 1.1


def test_degenerate_samples_give_no_false_interval():
    assert statistics.compared([0.3, 0.5], [0.1, 0.3]).low == pytest.approx(0.2)
    assert statistics.estimate([0.1] * 6)[:3] == pytest.approx((0.1, 0.1, 0.1), abs=1e-15)
    assert np.isnan(statistics.estimate([0.1] * 5).low)
    assert np.isnan(statistics.estimate([0.4]).low)
    assert np.isnan(statistics.estimate([0.4, np.nan, 0.3]).value)
    with pytest.raises(tidy.MissingData):
        statistics.estimate([])


def test_censored_seeds_rank_above_every_number():
    assert statistics.estimate([np.inf] * 6, "median")[:3] == (np.inf, np.inf, np.inf)
    mostly = statistics.estimate([10.0, 20.0, 30.0, 40.0, 50.0, np.inf], "median")
    assert mostly[:3] == (35.0, 10.0, np.inf)
    assert statistics.estimate([1.0, np.inf]).value == np.inf


def test_arms_with_different_seeds_are_not_compared():
    with pytest.raises(ValueError, match=r"seeds \[1, 2\]"):
        statistics.compared(pd.Series([1, 2], index=[0, 1]), pd.Series([1, 2], index=[0, 2]))


def test_holm_gives_the_textbook_values():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_the_correction_is_holms_over_the_whole_table_and_leaves_out_what_has_no_p():
    rows = [{"unit": "points", "value": 0.0, "p": p} for p in (0.01, np.nan, 0.02, 0.5)]
    np.testing.assert_allclose(statistics.corrected(rows)["p_holm"], [0.03, np.nan, 0.04, 0.5])


def test_the_paired_test_gives_the_textbook_value_and_1_for_equal_arms():
    a = pd.Series([0.1, 0.2, 0.4])
    assert statistics.paired(a, a)["p"] == 1.0
    assert statistics.paired(a * 2, a)["p"] == pytest.approx(0.1181, abs=1e-4)  # t = 2.646, 2 degrees
    assert statistics.paired(a * 2, a) == statistics.paired(a * 2 - a)


@pytest.mark.parametrize(
    "differences",
    [[0.3, np.nan, 0.4], [np.nan, np.nan], [0.1, np.inf], [0.3, 0.3, 0.3], [0.3], [0.0], []],
)
def test_a_missing_a_constant_and_a_single_difference_have_no_p(differences):
    assert np.isnan(statistics.p_value(differences))


def test_the_table_of_figure_1_says_what_the_frame_says():
    frame = synthetic.figure1(seeds=6, gain=0.02)
    table = tidy.figure1_table(frame).set_index(["unit", "arm"])
    last = tidy.curves(frame, "test/accuracy").iloc[-1]
    gain = table.loc[("points", "bn - baseline")]
    assert gain["value"] == pytest.approx((last["bn"] - last["baseline"]).mean())
    assert 0.015 < gain["low"] < gain["value"] < gain["high"] < 0.025
    assert gain["n"] == 6
    assert table.loc[("ratio", "bn / baseline"), "high"] < 1
    assert table["quantity"].str.contains("population").sum() == 1  # measured for BN only


def test_a_bn_run_that_never_reaches_the_target_is_counted_and_shown():
    arms = [curve("baseline", 0, [0.1, 0.9]), curve("bn", 0, [0.1, 0.5])]
    text = report.effects_markdown(tidy.figure1_table(pd.concat(arms)))
    assert "| bn | never | 1 (1 never) |" in text


def test_the_analysis_half_imports_neither_torch_nor_wandb_nor_hydra():
    code = (
        "import sys, bnrepro.analysis.frame, bnrepro.analysis.claims, bnrepro.analysis.figures;"
        "print(*{'torch', 'torchvision', 'wandb', 'hydra', 'omegaconf'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(synthetic.ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "\n"


def test_an_interval_over_rows_and_columns_covers_the_mean_of_both_populations():
    random, hit, n = np.random.default_rng(0), 0, 0
    for _ in range(400):
        rows, columns = random.normal(0, 1, (3, 1)), random.normal(0, 2, (1, 40))
        _, low, high, n = statistics.crossed(rows + columns + random.normal(0, 1, (3, 40)))
        hit += low <= 0 <= high
    assert n == 3
    assert hit / 400 >= 0.93
    assert statistics.crossed([[0.0, 1.0, 2.0]]) == statistics.estimate([0.0, 1.0, 2.0])
    assert np.isnan(statistics.crossed(np.ones((3, 40))).low)
