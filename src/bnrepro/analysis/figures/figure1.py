"""Figure 1 of the paper: accuracy against steps, and the input to one typical sigmoid."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.figures.style import (
    ACTIVATIONS,
    ARMS,
    STYLE,
    WIDTH,
    band,
    caption,
    intervals,
    rates_of,
    setting,
    split,
    steps_axis,
)

ABOVE_INSET = 0.94  # accuracy: the inset ends there


def accuracy(ax: Axes, frame: pd.DataFrame) -> None:
    """Accuracy against steps, both arms: mean over seeds, and a band from the lowest to the highest."""
    curve = tidy.curves(frame, tidy.accuracy_name(frame))
    for arm, look in ARMS.items():
        if arm in curve.columns.get_level_values("variant"):
            band(ax, curve[arm], **look)
    steps_axis(ax, curve.index.max())


def percentiles(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    """The {15, 50, 85}th percentiles of a typical last-hidden unit's input: medians and middle halves of the seeds.

    Thin: the typical seed alone. The units of different seeds drift in different directions, so that a median
    over seeds looks calmer than any of them.
    """
    color, ends, seed = ARMS[arm]["color"], [], typical_seed(frame, arm)
    for level, curve in _typical(frame, arm).items():
        quartiles = curve.quantile([0.25, 0.5, 0.75], axis=1).T.set_axis(["low", "value", "high"], axis=1)
        intervals(ax, quartiles, color=color, lw=2.2 if level == 50 else 1.4)
        ax.plot(curve.index, curve[seed], color="k", lw=0.5, alpha=0.8)
        ends.append((float(quartiles["value"].iloc[-1]), f"{level}%"))
        steps_axis(ax, curve.index.max())
    height, apart = -np.inf, 0.06 * np.ptp(ax.get_ylim())
    for end, label in ends:  # labels of lines that end close together are moved apart
        height = max(end, height + apart)
        ax.annotate(label, (1.015, height), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)


def typical_seed(frame: pd.DataFrame, arm: str) -> int:
    """The seed whose three percentiles stay closest to their medians over seeds."""
    curves = _typical(frame, arm)
    apart = [curve.sub(curve.median(axis=1), axis=0).abs().dropna() for curve in curves.values()]
    nearest = np.argmin(np.sum([tidy.mean_over_time(far) for far in apart], axis=0))
    return int(curves[50].columns[nearest])


def figure1(frame: pd.DataFrame) -> Figure:
    """The paper's Figure 1: (a) accuracy, (b, c) the input to one typical sigmoid, without and with BN.

    Accuracy is shown from 0.7 to 1 as in the paper, with a magnified end: what lies below is cut. The inputs
    share one axis, at least -2 to 2 as in the paper, and as wide as what is drawn.
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, middle, right = fig.subplots(1, 3, width_ratios=[1.3, 1, 1])
        accuracy(left, frame)
        left.set(ylim=(0.7, 1.0), ylabel="accuracy", title=f"(a) {split(frame)} accuracy")
        late = tidy.curves(frame, tidy.accuracy_name(frame)).loc[frame["step"].max() / 2 :]
        room = late.min(axis=None) > ABOVE_INSET  # for the inset, below all curves
        left.legend(loc="lower right" if room else "best")
        if room:
            zoom = left.inset_axes((0.4, 0.38, 0.58, 0.4))
            accuracy(zoom, frame)
            ends = late.index[[0, -1]]
            zoom.set(xlim=ends, xticks=ends, ylim=(late.min(axis=None), late.max(axis=None)), xlabel="")
        right.sharey(middle)
        for ax, arm, letter in ((middle, "baseline", "b"), (right, "bn", "c")):
            percentiles(ax, frame, arm)
            ax.set_title(f"({letter}) {ARMS[arm]['label']}")
        low, high = middle.get_ylim()
        middle.set_ylim(min(low, -2), max(high, 2))
        paper = "" if middle.get_ylim() == (-2, 2) else " (paper: -2 to 2)"
        middle.set_ylabel(f"input to one {_activation(frame)}{paper}")
        right.tick_params(labelleft=False)
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. (a) Mean of {n} seeds; band: lowest to highest seed"
            + ("; inset: second half of training." if room else "."),
            "(b, c) 15th, 50th and 85th percentile over examples of the input to one typical unit of the last hidden"
            f" layer: median of {n} seeds; band: their middle half; thin: the seed closest to these medians.",
        )
        return fig


def _activation(frame: pd.DataFrame) -> str:
    names = frame["model.activation"].unique() if "model.activation" in frame else ["sigmoid"]
    return ACTIVATIONS.get(names[0], names[0]) if len(names) == 1 else "nonlinearity"


def figure1_regimes(frames: dict[str, pd.DataFrame], zoom: tuple[float, float] = (0.94, 0.99)) -> Figure:
    """Accuracy, one column a regime: above on the paper's axis, below at its upper end (`zoom`)."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        axes = fig.subplots(
            2, len(frames), sharex="col", sharey="row", squeeze=False, gridspec_kw={"wspace": 0.08}
        )
        for (above, below), (regime, frame) in zip(axes.T, frames.items(), strict=True):
            accuracy(above, frame)
            accuracy(below, frame)
            title = f"{regime.replace('_', '-')}\n{rates_of(frame)}"
            above.set_title(title, loc="left", fontsize=8.5, fontweight="normal")
            above.set_xlabel("")
        axes[0, 0].set(ylim=(0.7, 1.0), ylabel="accuracy")
        axes[1, 0].set(ylim=zoom, ylabel=f"accuracy, {zoom[0]:g} to {zoom[1]:g}")
        axes[0, 0].legend(loc="lower right")
        every = pd.concat(frames.values())
        n = " or ".join(sorted({str(frame["seed"].nunique()) for frame in frames.values()}, key=int))
        what = f"{setting(every, rates=False)}, {split(every)} accuracy"
        caption(fig, f"{what}. Mean of {n} seeds; band: lowest to highest seed.")
        return fig


def _typical(frame: pd.DataFrame, arm: str) -> dict[int, pd.DataFrame]:
    """{percentile: table of step x seed} of the typical unit of the last hidden layer."""
    unit = tidy.typical_unit(frame)
    tables = {level: tidy.curves(frame, f"{unit}/p{level}") for level in (15, 50, 85)}
    if arm not in tables[50].columns.get_level_values("variant"):
        raise tidy.MissingData(f"no probe of {arm}")
    return {level: table[arm].dropna(how="all") for level, table in tables.items()}
