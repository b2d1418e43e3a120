import numpy as np
import pandas as pd
import pytest
import synthetic

from bnrepro.analysis import claims, report
from bnrepro.analysis.claims import figure1 as judges


def both(**paper_like) -> dict[str, pd.DataFrame]:
    tuned = synthetic.figure1(regime="tuned", lag=0.0, gain=0.01)
    return {"fig1_mnist": pd.concat([synthetic.figure1(**paper_like), tuned])}


def swap_arms(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    names = {"baseline": "bn", "bn": "baseline"}
    return {name: frame.replace({"variant": names}) for name, frame in frames.items()}


@pytest.mark.parametrize("judge", [judges.c1, judges.c2, judges.c3])
def test_each_claim_about_figure_1_holds_for_bn_and_not_for_its_opposite(judge):
    assert judge(both()).verdict == "reproduced"
    assert judge(swap_arms(both())).verdict == "not reproduced"


@pytest.mark.parametrize("judge", [judges.c1, judges.c2])
def test_a_claim_that_holds_in_one_regime_only_is_partly_reproduced_and_shows_the_other(judge):
    verdict = judge(both(lag=0.0, gain=-0.01))
    assert verdict.verdict == "partly"
    assert "paper-like" in verdict.measure
    assert "tuned" in verdict.note


def test_one_regime_alone_is_never_enough():
    verdict = judges.c2({"fig1_mnist": synthetic.figure1()})
    assert verdict.verdict == "partly"
    assert "not measured: tuned" in verdict.note


def test_the_lead_is_averaged_over_training_time_and_not_over_the_dense_early_grid():
    frames = both()
    frame = frames["fig1_mnist"]
    early = (frame["step"] < 100) & (frame["variant"] == "bn") & (frame["name"] == "test/accuracy")
    frames["fig1_mnist"] = frame.assign(
        value=frame["value"].where(~early, 0.0)
    )  # BN behind for 2% of training
    assert judges.c1(frames).verdict == "reproduced"


def test_a_bn_seed_that_never_arrives_denies_the_speed_up():
    frames = both()
    frame = frames["fig1_mnist"]
    hopeless = (frame["variant"] == "bn") & (frame["seed"] < 4) & (frame["name"] == "test/accuracy")
    verdict = judges.c2({"fig1_mnist": frame.assign(value=frame["value"].where(~hopeless, 0.1))})
    assert verdict.verdict == "not reproduced"
    assert verdict.high == np.inf


def test_a_single_seed_supports_no_verdict():
    assert judges.c2(both(seeds=1) | {}).verdict in ("partly", "not reproduced")
    one = both()["fig1_mnist"].query("seed == 0")
    assert judges.c2({"fig1_mnist": one}).verdict == "not reproduced"


def test_identities_hold_only_where_every_error_is_within_its_tolerance():
    rows = [
        ("C4", "output", 1e-12, 1e-10, 9),
        ("C4", "gradient", 0.0, 0.0, 9),
        ("C5", "identity", 1e-3, 1e-10, 4),
    ]
    frames = {"exact": pd.DataFrame(rows, columns=["claim", "name", "value", "tolerance", "n"])}
    assert judges.exact("C4", frames).verdict == "reproduced"
    assert judges.exact("C5", frames).verdict == "not reproduced"
    assert judges.exact("C5", frames).effect == 1e-3


def test_caring_less_about_initialization_is_judged_for_the_right_arm():
    assert judges.c16({"sensitivity_mnist": synthetic.sensitivity()}).verdict == "reproduced"
    other = judges.c16({"sensitivity_mnist": synthetic.sensitivity(careless="baseline")})
    assert other.verdict == "not reproduced"
    assert other.n == 3


def test_cells_that_one_arm_lacks_are_left_out_and_counted():
    frame = synthetic.sensitivity().query(
        "not (variant == 'bn' and `optim.lr` == 10 and `model.init_std` == 1)"
    )
    assert "3 cells left out" in judges.c16({"sensitivity_mnist": frame}).note


def test_without_any_results_every_claim_is_not_tested(tmp_path):
    card = claims.scorecard(tmp_path)
    assert card["claim"].tolist() == [f"C{i}" for i in range(1, 19)]
    assert set(card["verdict"]) == {"not tested"}


def test_without_a_baseline_a_claim_is_not_tested_and_says_why(tmp_path):
    synthetic.figure1().query("variant == 'bn'").to_parquet(tmp_path / "fig1_mnist.parquet")
    card = claims.scorecard(tmp_path).set_index("claim")
    assert card.loc["C1", "verdict"] == "not tested"
    assert "baseline" in card.loc["C1", "note"]


def test_the_scorecard_survives_its_file_and_lands_between_the_markers(tmp_path):
    both()["fig1_mnist"].to_parquet(tmp_path / "fig1_mnist.parquet")
    card = claims.scorecard(tmp_path)
    again = report.read_scorecard(report.scorecard_csv(card))
    readme = f"# top\n{report.BEGIN}\nold\n{report.END}\nrest\n"
    after = report.with_scorecard(readme, again)
    assert after.startswith("# top\n")
    assert after.endswith("\nrest\n")
    assert "**reproduced**" in after
    assert "old" not in after
    assert after == report.with_scorecard(after, card)
    with pytest.raises(ValueError, match="no block"):
        report.with_scorecard("# top\n", card)


def test_the_script_writes_both_and_its_check_notices_an_edit(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.BEGIN}\n{report.END}\n")
    folders = ("--results", tmp_path, "--readme", readme)
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 1  # no table yet
    assert synthetic.run_script("scorecard.py", *folders) == 0
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 0
    readme.write_text(readme.read_text().replace("not tested", "**reproduced**", 1))
    assert synthetic.run_script("scorecard.py", "--check", *folders) == 1


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
