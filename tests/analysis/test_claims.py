import ast
import inspect
import re
import sys

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from bnrepro.analysis import claims, report
from bnrepro.analysis.claims import RULES, source
from bnrepro.analysis.claims.rule import Case, Expected, Rule, verdict
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.statistics import Interval

SAMPLED = {claim for claim, rule in RULES.items() if rule.expected}


def both(**paper_like) -> dict[str, pd.DataFrame]:
    paper_like = {"seeds": 6} | paper_like  # the fewest of which a median has a 95% interval
    tuned = synthetic.figure1(seeds=6, regime="tuned", lag=0.0, gain=0.01)
    return {"fig1_mnist": pd.concat([synthetic.figure1(**paper_like), tuned])}


def swap_arms(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    names = {"baseline": "bn", "bn": "baseline"}
    return {name: frame.replace({"variant": names}) for name, frame in frames.items()}


@pytest.mark.parametrize("judge", [RULES["C1"].judge, RULES["C2"].judge, RULES["C3"].judge])
def test_each_claim_about_figure_1_holds_for_bn_and_not_for_its_opposite(judge):
    assert judge(both()).verdict == "reproduced"
    assert judge(swap_arms(both())).verdict == "not reproduced"


@pytest.mark.parametrize("judge", [RULES["C1"].judge, RULES["C2"].judge])
def test_a_claim_that_holds_in_one_regime_only_is_partly_reproduced(judge):
    verdict = judge(both(lag=0.0, gain=-0.01))
    assert verdict.verdict == "partly"
    assert "(both at rate 0.1)" in verdict.note
    assert "(each at its best rate)" in verdict.note
    counts = dict(reversed(part.split()) for part in verdict.cases.split(", "))
    assert {name: int(n) for name, n in counts.items()} == {
        "hold": verdict.note.count(": holds"),
        "fail": verdict.note.count(": fails"),
    }


def test_one_regime_alone_is_not_enough():
    with pytest.raises(MissingData, match="each at its best rate"):
        RULES["C2"].judge({"fig1_mnist": synthetic.figure1()})


def test_the_lead_is_averaged_over_training_time_and_not_over_the_dense_early_grid():
    frames = both()
    frame = frames["fig1_mnist"]
    early = (frame["step"] < 20) & (frame["variant"] == "bn") & (frame["name"] == "test/accuracy")
    frames["fig1_mnist"] = frame.assign(value=frame["value"].where(~early, 0.0))  # for 0.4% of training
    assert RULES["C1"].judge(frames).verdict == "reproduced"


def test_a_net_that_diverges_guesses_from_then_on_and_takes_no_step_from_the_others():
    frame = synthetic.figure1(seeds=6)
    late = (frame["variant"] == "bn") & (frame["seed"] == 0) & (frame["step"] > 2500)
    lost = frame.assign(value=frame["value"].mask(late & (frame["name"] == "test/accuracy")))
    guessing = frame.assign(value=frame["value"].mask(late & (frame["name"] == "test/accuracy"), 0.1))
    tuned = synthetic.figure1(seeds=6, regime="tuned", lag=0.0, gain=0.01)
    one, other = (RULES["C1"].judge({"fig1_mnist": pd.concat([f, tuned])}) for f in (lost, guessing))
    assert one == other
    assert one.effect < RULES["C1"].judge({"fig1_mnist": pd.concat([frame, tuned])}).effect


def test_a_bn_seed_that_never_arrives_denies_the_speed_up():
    frames = both()
    frame = frames["fig1_mnist"]
    hopeless = (frame["variant"] == "bn") & (frame["seed"] < 4) & (frame["name"] == "test/accuracy")
    verdict = RULES["C2"].judge({"fig1_mnist": frame.assign(value=frame["value"].where(~hopeless, 0.1))})
    assert verdict.verdict == "inconclusive"
    assert verdict.high == np.inf


def test_a_single_seed_supports_no_verdict():
    for claim in ("C1", "C2"):
        assert (
            RULES[claim]
            .judge(both(seeds=6) | {"fig1_mnist": both()["fig1_mnist"].query("seed == 0")})
            .verdict
            == "inconclusive"
        )


def test_a_steadier_layer_takes_most_of_its_units():
    frames = both()
    frame = frames["fig1_mnist"]
    wild = frame["name"].str.contains(r"/unit[0-6]/") & (frame["variant"] == "bn")
    worse = frame.assign(value=frame["value"].where(~wild, frame["value"] * 400))
    verdict = RULES["C3"].judge({"fig1_mnist": worse})
    assert verdict.verdict == "partly"
    assert verdict.note.count("fails") == 4


def test_identities_hold_only_where_every_error_is_within_its_tolerance():
    rows = [
        ("C4", "output", 1e-12, 1e-10, 9),
        ("C4", "gradient", 0.0, 0.0, 9),
        ("C5", "identity", 1e-3, 1e-10, 4),
    ]
    frames = {"exact": pd.DataFrame(rows, columns=["claim", "name", "value", "tolerance", "n"])}
    assert RULES["C4"].judge(frames).verdict == "reproduced"
    assert RULES["C5"].judge(frames).verdict == "not reproduced"
    assert RULES["C5"].judge(frames).effect == 1e-3


def test_caring_less_about_initialization_is_judged_for_the_right_arm():
    assert RULES["C16"].judge({"sensitivity_mnist": synthetic.sensitivity()}).verdict == "reproduced"
    other = RULES["C16"].judge({"sensitivity_mnist": synthetic.sensitivity(careless="baseline")})
    assert other.verdict == "not reproduced"
    assert other.n == 6


def test_without_any_results_every_claim_is_not_tested(tmp_path):
    card = claims.scorecard(tmp_path)
    assert card["claim"].tolist() == [f"C{i}" for i in range(1, 19)]
    assert set(card["verdict"]) == {"not tested"}


def test_without_a_baseline_a_claim_is_not_tested_and_says_why(tmp_path):
    both()["fig1_mnist"].query("variant == 'bn'").to_parquet(tmp_path / "fig1_mnist.parquet")
    card = claims.scorecard(tmp_path).set_index("claim")
    assert card.loc["C1", "verdict"] == "not tested"
    assert "baseline" in card.loc["C1", "note"]


def test_claims_that_are_judged_alone_get_what_they_get_among_all(tmp_path):
    both()["fig1_mnist"].to_parquet(tmp_path / "fig1_mnist.parquet")
    card = claims.scorecard(tmp_path).query("claim in ('C2', 'C7')").reset_index(drop=True)
    pd.testing.assert_frame_equal(claims.scorecard(tmp_path, "C2", "C7"), card)
    with pytest.raises(KeyError, match="C99"):
        claims.scorecard(tmp_path, "C99")


def test_the_scorecard_survives_its_file_and_lands_between_the_markers(tmp_path):
    both()["fig1_mnist"].to_parquet(tmp_path / "fig1_mnist.parquet")
    card = claims.scorecard(tmp_path)
    again = report.read_scorecard(report.scorecard_csv(card))
    readme = f"# top\n{report.BEGIN}\nold\n{report.END}\nrest\n"
    after = report.with_scorecard(readme, again)
    assert after.startswith("# top\n")
    assert after.endswith("\nrest\n")
    assert "| reproduced |" in after
    assert "old" not in after
    assert after == report.with_scorecard(after, card)
    with pytest.raises(ValueError, match="no block"):
        report.with_scorecard("# top\n", card)


def test_every_row_of_the_scorecard_has_its_cells_whatever_a_measure_is_called(tmp_path):
    card = claims.scorecard(tmp_path)
    card.loc[0, ["verdict", "measure", "unit"]] = ["partly", "|log10 s|", "number"]
    rows = report.scorecard_markdown(card).splitlines()
    assert r"\|log10 s\|" in rows[2]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {8}
    assert {row.count("|") for row in report.scorecard_short(card).splitlines()} == {5}


def test_the_script_writes_both_and_its_check_notices_an_edit(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.BEGIN}\n{report.END}\n")
    folders = ("--results", tmp_path, "--readme", readme)
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 1  # no table yet
    assert synthetic.run_script("scorecard.py", *folders) == 0
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 0
    readme.write_text(readme.read_text().replace("not tested", "reproduced", 1))
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 1


def test_a_folder_that_is_not_there_is_refused_and_leaves_the_readme_alone(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(before := f"{report.BEGIN}\nverdicts\n{report.END}\n")
    assert synthetic.run_script("scorecard.py", "--results", tmp_path / "typo", "--readme", readme) == 1
    assert "typo is no folder of results" in capsys.readouterr().err
    assert readme.read_text() == before
    assert not (tmp_path / "typo").exists()
    (results := tmp_path / "results").mkdir()
    assert synthetic.run_script("scorecard.py", "--results", results, "--readme", tmp_path / "none") == 1
    assert not list(results.iterdir())


def test_the_readme_shows_the_committed_scorecard():
    readme = synthetic.ROOT / "README.md"
    text = readme.read_text() if readme.exists() else ""
    if report.BEGIN not in text:
        pytest.skip("README.md has no scorecard block yet")
    assert (
        synthetic.run_script(
            "scorecard.py", "--check", "--readme", readme, "--results", readme.parent / "results"
        )
        == 0
    )


FATES = st.sampled_from(["holds", "fails", "open"])


@given(st.lists(FATES, min_size=1, max_size=6))
def test_a_verdict_says_no_more_than_its_cases(fates):
    said = verdict(fates)
    assert (said == "reproduced") == all(fate == "holds" for fate in fates)
    assert (said == "not reproduced") == all(fate == "fails" for fate in fates)
    assert (said == "partly") == ({"holds", "fails"} <= set(fates))
    assert (said == "inconclusive") == ("open" in fates and not {"holds", "fails"} <= set(fates))


BOUNDS = st.floats(-5, 5)


@given(BOUNDS, BOUNDS, BOUNDS)
def test_a_case_is_open_where_its_interval_holds_the_bound_and_mirrors(low, high, least):
    low, high = min(low, high), max(low, high)
    above = Case("", "number", Interval(low, low, high, 9), least)
    below = Case("", "number", Interval(-low, -high, -low, 9), -least, above=False)
    assert above.fate == below.fate
    assert (above.fate == "open") == (low <= least <= high)


def test_an_interval_without_bounds_leaves_its_case_open():
    assert Case("", "number", Interval(1.0, np.nan, np.nan, 1), 0.0).fate == "open"


def test_every_rule_that_samples_states_error_rates_that_can_be_trusted():
    table = claims.rules_table(synthetic.ROOT / "results", "now").set_index("claim")
    assert (table["p_if_no_effect"] <= 0.05).all()
    strong = table.drop(index=list(WEAK))
    assert (strong["p_if_right"] >= 0.8).all()
    assert (strong["coverage"] >= 0.93).all()


WEAK = {"C8", "C9", "C10", "C13", "C14"}  # with as many seeds as they have now


def test_the_committed_rules_are_the_ones_in_the_code_and_older_than_what_they_judge():
    results = synthetic.ROOT / "results"
    stored = pd.read_csv(results / claims.RULES_FILE, dtype={"rule": str, "data_from": str})
    stored = stored.fillna({"data_from": ""}).set_index("claim")
    now = claims.rules_table(results, "now").set_index("claim")
    assert stored["rule"].to_dict() == now["rule"].to_dict()
    assert stored["data_from"].to_dict() == now["data_from"].to_dict()
    judged = stored[stored["data_from"] != ""]
    younger = judged.index[judged["committed"] >= judged["data_from"]]
    assert younger.empty, (
        f"rules younger than the runs they judge (make scorecard comes first): {list(younger)}"
    )


def test_a_claim_without_a_rule_a_statement_or_a_short_form_is_named():
    claims.complete(["C1", "C7", "C7-Inception"], ["C1", "C7"], ["C7", "C1"])
    for lists in ((["C1"], ["C1", "C2"], ["C1", "C2"]), (["C1", "C2"], ["C1"], ["C1", "C2"])):
        with pytest.raises(ValueError, match="C2 must stand in RULES"):
            claims.complete(*lists)


@pytest.mark.parametrize("claim", sorted(SAMPLED - {"C8", "C9", "C10", "C11", "C13", "C14"}))
def test_a_rule_is_simulated_with_as_many_seeds_as_its_experiments_have(claim):
    files = [
        file
        for name in RULES[claim].experiments
        for file in (synthetic.ROOT / "conf/experiment").glob(f"{name}*.yaml")  # collected into one
    ]
    spans = [re.findall(r"^seeds: (\d+)-(\d+)", file.read_text(), re.MULTILINE)[0] for file in files]
    assert {int(last) - int(first) + 1 for first, last in spans} == {g.n for g in RULES[claim].expected}


def some(frames):
    """A rule of nothing."""
    return [Case("", "number", Interval(1.0, 1.0, 1.0, 3), 0.0)]


@pytest.mark.parametrize(
    ("module", "old", "new", "changed"),
    [
        ("claims.figure1", "LEAD = 0.001", "LEAD = 0.002", {"C1"}),
        ("claims.rule", 'return "holds" if low > least', 'return "holds" if low >= least', SAMPLED),
        ("claims.rule", 'return "reproduced"', 'return "partly"', SAMPLED),
        (
            "frame",
            "CHANCE = 0.1",
            "CHANCE = 0.0",
            {"C1", "C7", "C7-Inception", "C10", "C12", "C13", "C16", "C17", "C18"},
        ),
        ("effects.why", '"jacobian_linear", "from_one"', '"jacobian", "from_one"', {"C15"}),
        (
            "claims.figure1",
            "BN's test accuracy lies more",
            "BN's accuracy lies much more",
            set(),
        ),  # a docstring
        ("claims.figure1", "averaged over training (", "in the mean (", set()),  # the words of a case
        ("report", "return", "raise", set()),  # it writes, and decides nothing
    ],
)
def test_a_rules_hash_follows_all_code_that_decides_and_no_words(module, old, new, changed, monkeypatch):
    module = f"bnrepro.analysis.{module}"
    text = inspect.getsource(sys.modules[module])
    assert old in text

    def hashes(text):
        for cached in (source._imports, source._definitions):
            cached.cache_clear()
        texts = {module: text}
        monkeypatch.setattr(
            source, "_tree", lambda name: ast.parse(texts.get(name) or inspect.getsource(sys.modules[name]))
        )
        return {claim: RULES[claim].fingerprint() for claim in SAMPLED}

    before, after = hashes(text), hashes(text.replace(old, new))
    assert {claim for claim in SAMPLED if before[claim] != after[claim]} == changed


def test_a_changed_rule_gets_a_new_date_and_an_unchanged_one_keeps_its_own(tmp_path):
    table = claims.rules_table(tmp_path, "2020")
    table.loc[table["claim"] == "C2", "rule"] = "another"
    table.to_csv(tmp_path / claims.RULES_FILE, index=False)
    again = claims.rules_table(tmp_path, "2021").set_index("claim")["committed"]
    assert again["C1"] == "2020"
    assert again["C2"] == "2021"


@pytest.mark.parametrize("kind", ["mean", "median", "ratio", "share"])
def test_intervals_cover_what_they_claim_and_power_grows_with_n(kind):
    def rates(n):
        right, none = (0.9, 0.5) if kind == "share" else (2.0, 1.0)
        group = Expected(kind, right, none, 0.5, n, 0.6 if kind == "share" else 1.3)
        return Rule(some, (group,), (), "").error_rates()

    few, many = rates(6), rates(30)
    assert min(few["coverage"], many["coverage"]) >= 0.93
    assert few["p_if_right"] <= many["p_if_right"] >= 0.8
    assert max(few["p_if_no_effect"], many["p_if_no_effect"]) <= 0.05
