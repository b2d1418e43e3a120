import re
import shutil

import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.figure import Figure
from synthetic import ROOT

from bnrepro.analysis import figures, report
from bnrepro.analysis import frame as tidy
from bnrepro.analysis.figures import catalogue, style
from bnrepro.analysis.figures.figure1 import accuracy, percentiles, typical_seed


def colour_of(ax, label):
    return next(line.get_color() for line in ax.lines if line.get_label() == label)


def test_figure_1_has_the_papers_panels_and_axes():
    a, b, c = figures.figure1(synthetic.figure1()).axes
    assert a.get_ylim() == (0.7, 1.0)
    assert b.get_ylim() == c.get_ylim()
    assert b.get_ylim()[1] >= 2
    assert a.xaxis.get_major_formatter()(10_000) == "10K"
    assert "5 seeds" in a.figure.get_supxlabel()


def test_the_accuracy_line_is_the_mean_and_the_band_holds_every_seed():
    frame = synthetic.figure1()
    ax = Figure().subplots()
    accuracy(ax, frame)
    seeds = tidy.curves(frame, "test/accuracy")["bn"]
    line = next(line for line in ax.lines if line.get_label() == "with BN")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), seeds.mean(axis=1))
    band = np.asarray(ax.collections[1].get_paths()[0].vertices)[:, 1]
    assert band.min() == seeds.to_numpy().min()
    assert band.max() == seeds.to_numpy().max()


def test_a_band_has_the_arithmetic_mean_unless_its_axis_is_logarithmic_already():
    seeds = pd.DataFrame({0: [1.0, 2.0, np.nan], 1: [4.0, 8.0, np.nan], 2: [1.0, np.nan, 5.0]}, [0, 10, 20])
    for scale, expected in (("linear", [2, 5, 5]), ("log", [4 ** (1 / 3), 4, 5])):
        ax = Figure().subplots()
        ax.set_yscale(scale)
        style.band(ax, seeds, color="k")
        np.testing.assert_allclose(np.asarray(ax.lines[0].get_xydata()).T, [[0, 10, 20], expected])
        edges = np.asarray(ax.collections[0].get_paths()[0].vertices)
        np.testing.assert_allclose(edges[edges[:, 0] == 10, 1].min(), 2)
        np.testing.assert_allclose(edges[edges[:, 0] == 10, 1].max(), 8)


def test_the_percentiles_are_medians_over_seeds_in_their_bands_and_thin_one_seeds_own():
    frame = synthetic.figure1()
    ax = Figure().subplots()
    percentiles(ax, frame, "baseline")
    seeds = tidy.curves(frame, "probe/hidden3/typical/p50")["baseline"]
    _, _, middle, own, *_ = ax.lines
    np.testing.assert_allclose(middle.get_ydata(), seeds.median(axis=1))
    np.testing.assert_array_equal(own.get_ydata(), seeds[typical_seed(frame, "baseline")])
    assert own.get_linewidth() < middle.get_linewidth()
    edges = pd.DataFrame(ax.collections[1].get_paths()[0].vertices).groupby(0)[1]
    np.testing.assert_allclose(edges.min(), seeds.quantile(0.25, axis=1))
    np.testing.assert_allclose(edges.max(), seeds.quantile(0.75, axis=1))


def test_inputs_beyond_the_papers_axis_widen_it_and_are_announced():
    frame = synthetic.figure1()
    probe = frame["name"].str.startswith("probe")
    _, b, c = figures.figure1(frame.assign(value=frame["value"].where(~probe, 3 * frame["value"]))).axes
    assert b.get_ylim() == c.get_ylim()
    assert b.get_ylim()[1] > 2
    assert "paper: -2 to 2" in b.get_ylabel()


def test_an_arm_keeps_its_colour_in_every_figure():
    frame = synthetic.figure1()
    one, two = figures.figure1(frame), figures.figure1_regimes({"paper_like": frame, "tuned": frame})
    for label in ("with BN", "without BN"):
        assert len({colour_of(ax, label) for ax in (one.axes[0], *two.axes)}) == 1


def test_the_panel_marks_divergence_and_survives_a_missing_cell():
    frame = synthetic.sensitivity().query(
        "not (variant == 'bn' and `optim.lr` == 2 and `model.init_std` == 1)"
    )
    baseline, bn, difference, *_ = figures.sensitivity(frame).axes
    assert [t.get_text() for t in baseline.texts if "✕" in t.get_text()] == ["✕"]
    assert len(baseline.patches) == len(bn.patches) == 5  # a best rate framed for each init std
    assert [t.get_text() for t in bn.texts].count("–") == 1
    assert not any(t.get_text() == "-0.0" for t in difference.texts)


def test_a_table_goes_into_the_study_where_that_has_a_block_of_its_name(tmp_path):
    (tmp_path / "docs").mkdir()
    (study := tmp_path / "docs/study.md").write_text(
        "a\n<!-- table: c7_inception -->\nold\n<!-- /table: c7_inception -->\nb\n"
    )
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results/c7_inception.parquet", tmp_path / "results")
    assert synthetic.run_script("figures.py", "c7_inception", "--results", tmp_path / "results") == 0
    table = (tmp_path / "results/tables/c7_inception.md").read_text()
    assert study.read_text() == f"a\n<!-- table: c7_inception -->\n{table}<!-- /table: c7_inception -->\nb\n"


@pytest.mark.parametrize(
    "text", ["none", "<!-- table: x -->\nnever closed", "<!-- /table: x -->\n<!-- table: x -->"]
)
def test_a_text_without_the_whole_block_stays_as_it_is(text):
    assert report.with_block(text, "table: x", "new\n") == text


def test_the_study_shows_the_committed_tables():
    study = (ROOT / "docs/study.md").read_text()
    names = re.findall("<!-- table: (.*) -->", study)
    assert "figure2_imagenet" in names
    for name in names:
        table = (ROOT / f"results/tables/{name}.md").read_text()
        shown = f"<!-- table: {name} -->\n{table}<!-- /table: {name} -->"
        assert shown in study, "run scripts/figures.py"


def test_a_figure_without_its_data_says_what_is_missing():
    with pytest.raises(tidy.MissingData, match="no probe of bn"):
        figures.figure1(synthetic.figure1().query("variant == 'baseline'"))


def test_the_script_fails_where_a_table_is_wrong_and_draws_the_others_all_the_same(tmp_path, capsys):
    frame = synthetic.figure1()
    pd.concat([frame, frame]).to_parquet(tmp_path / "fig1_mnist.parquet")  # every run twice
    pd.DataFrame({"step": [1]}).to_parquet(tmp_path / "design_grid.parquet")
    synthetic.sensitivity().to_parquet(tmp_path / "sensitivity_mnist.parquet")
    assert synthetic.run_script("figures.py", "--results", tmp_path) == 1
    said = capsys.readouterr().err
    assert "fig1_mnist failed: ValueError: " in said and "design_grid failed: ValueError: " in said
    assert "placement skipped: " in said and "placement failed" not in said
    assert {path.name for path in tmp_path.glob("*/*")} == {"sensitivity_mnist.png"}


def test_rows_that_are_not_there_are_skipped_and_no_failure(tmp_path):
    synthetic.figure1().query("variant == 'bn'").to_parquet(tmp_path / "fig1_mnist.parquet")
    paths, reason, failed = catalogue.draw(tmp_path, "fig1_mnist", pd.DataFrame())
    assert (paths, reason, failed) == ([], "fig1_mnist skipped: no probe of baseline", False)


def test_the_script_draws_what_has_data_and_names_what_has_not(tmp_path, capsys):
    synthetic.figure1().to_parquet(tmp_path / "fig1_mnist.parquet")
    assert synthetic.run_script("figures.py", "--results", tmp_path) == 0
    assert "sensitivity_mnist skipped" in capsys.readouterr().err
    made = {path.name for path in tmp_path.glob("*/*")}
    assert made == {"figure1_regimes.png", *(f"figure1_paper_like.{kind}" for kind in ("png", "csv", "md"))}


def test_only_the_experiments_that_are_named_are_drawn_and_one_without_a_figure_says_so(tmp_path, capsys):
    synthetic.figure1(seeds=6).to_parquet(tmp_path / "fig1_quick.parquet")
    assert synthetic.run_script("figures.py", "fig1_quick", "--results", tmp_path) == 0
    assert {path.name for path in tmp_path.rglob("fig1_quick.*")} >= {"fig1_quick.png", "fig1_quick.md"}
    assert synthetic.run_script("figures.py", "rates_mnist", "--results", tmp_path) == 2
    assert "rates_mnist: no figure of that name" in capsys.readouterr().err
    assert synthetic.run_script("figures.py", "why_it_works", "--results", tmp_path) == 1
    assert "why_it_works skipped" in capsys.readouterr().err
