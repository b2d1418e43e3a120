import numpy as np
import pytest
import synthetic
from matplotlib.figure import Figure

from bnrepro import figures, results
from bnrepro.figures.figure1 import accuracy, percentiles


def colour_of(ax, label):
    return next(line.get_color() for line in ax.lines if line.get_label() == label)


def test_figure_1_has_the_papers_panels_and_axes():
    a, b, c = figures.figure1(synthetic.figure1()).axes
    assert a.get_ylim() == (0.7, 1.0)
    assert b.get_ylim() == c.get_ylim() == (-2, 2)
    assert a.xaxis.get_major_formatter()(10_000) == "10K"
    assert "5 seeds" in a.figure.get_supxlabel()


def test_the_accuracy_line_is_the_mean_and_the_band_holds_every_seed():
    frame = synthetic.figure1()
    ax = Figure().subplots()
    accuracy(ax, frame)
    seeds = results.curves(frame, "test/accuracy")["bn"]
    line = next(line for line in ax.lines if line.get_label() == "with BN")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), seeds.mean(axis=1))
    band = np.asarray(ax.collections[1].get_paths()[0].vertices)[:, 1]
    assert band.min() == seeds.to_numpy().min()
    assert band.max() == seeds.to_numpy().max()


def test_the_bold_percentiles_are_one_seeds_own_and_not_an_average():
    frame = synthetic.figure1()
    ax = Figure().subplots()
    percentiles(ax, frame, "baseline")
    bold = max(ax.lines, key=lambda line: line.get_linewidth())
    expected = results.curves(frame, "probe/hidden3/typical/p50")[("baseline", 0)]
    np.testing.assert_array_equal(bold.get_ydata(), expected)


def test_inputs_beyond_the_papers_axis_widen_it_and_are_announced():
    frame = synthetic.figure1()
    probe = frame["name"].str.startswith("probe")
    _, b, c = figures.figure1(frame.assign(value=frame["value"].where(~probe, 3 * frame["value"]))).axes
    assert b.get_ylim() == c.get_ylim()
    assert b.get_ylim()[1] > 2
    assert "paper: ±2" in b.get_ylabel()


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
    assert [t.get_text() for t in baseline.texts if "✕" in t.get_text()] == ["10.0\n✕ 3/3"]
    assert [t.get_text() for t in bn.texts].count("–") == 1
    assert not any(t.get_text() == "-0.0" for t in difference.texts)


def test_a_figure_without_its_data_says_what_is_missing():
    with pytest.raises(results.MissingData, match="no probe of bn"):
        figures.figure1(synthetic.figure1().query("variant == 'baseline'"))


def test_the_script_draws_what_has_data_and_names_what_has_not(tmp_path, capsys):
    synthetic.figure1().to_parquet(tmp_path / "fig1_mnist.parquet")
    assert synthetic.run_script("figures.py", "--results", tmp_path) == 0
    assert "sensitivity_mnist skipped" in capsys.readouterr().err
    made = {path.name for path in tmp_path.glob("*/*")}
    assert made == {"figure1_regimes.png", *(f"figure1_paper_like.{kind}" for kind in ("png", "csv", "md"))}
