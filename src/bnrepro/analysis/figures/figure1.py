"""Figure 1 of the paper: accuracy against steps, and the input to one typical sigmoid."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.figures.style import ARMS, STYLE, band, caption, rates_of, setting, split, steps_axis


def accuracy(ax: Axes, frame: pd.DataFrame) -> None:
    """Accuracy against steps, both arms: mean over seeds, and a band from the lowest to the highest."""
    curve = tidy.curves(frame, tidy.accuracy_name(frame))
    for arm, look in ARMS.items():
        if arm in curve.columns.get_level_values("variant"):
            band(ax, curve[arm], **look)
    steps_axis(ax, curve.index.max())


def percentiles(ax: Axes, frame: pd.DataFrame, arm: str, limit: float = 2.0) -> None:
    """The {15, 50, 85}th percentiles of a typical last-hidden unit's input; bold: the first seed.

    No mean over seeds: their units drift in different directions, and an average would look calmer than any.
    """
    ends = []
    for level, curve in _typical(frame, arm).items():
        first, color = curve.iloc[:, 0], ARMS[arm]["color"]
        ax.plot(curve.index, curve.iloc[:, 1:], color=color, lw=0.5, alpha=0.3)
        ax.plot(
            curve.index, first, color=color, linestyle=ARMS[arm]["linestyle"], lw=2.2 if level == 50 else 1.4
        )
        ends.append((float(np.clip(first.iloc[-1], -limit, limit)), f"{level}%"))
        steps_axis(ax, curve.index.max())
    ax.set_ylim(-limit, limit)
    height = -np.inf
    for end, label in ends:  # labels of lines that end close together are moved apart
        height = max(end, height + 0.12 * limit)
        ax.annotate(label, (1.015, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def figure1(frame: pd.DataFrame) -> Figure:
    """The paper's Figure 1: (a) accuracy, (b, c) the input to one typical sigmoid, without and with BN.

    Accuracy is shown from 0.7 to 1 as in the paper: what lies below is cut. The inputs share one axis, -2 to
    2 as in the paper; where 5% of the points lie outside it is wider, and says so.
    """
    inputs = [curve.abs().to_numpy().ravel() for arm in ARMS for curve in _typical(frame, arm).values()]
    limit = max(2.0, float(np.ceil(np.nanquantile(np.concatenate(inputs), 0.95))))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.5, 3.7), layout="constrained")
        left, middle, right = fig.subplots(1, 3, width_ratios=[1.2, 1, 1])
        accuracy(left, frame)
        left.set(ylim=(0.7, 1.0), ylabel="accuracy", title=f"(a) {split(frame)} accuracy")
        left.legend(loc="lower right")
        for ax, arm, letter in ((middle, "baseline", "b"), (right, "bn", "c")):
            percentiles(ax, frame, arm, limit)
            ax.set_title(f"({letter}) input to a sigmoid, {ARMS[arm]['label']}")
        middle.set_ylabel("input to one unit" + ("" if limit == 2 else f" (±{limit:g}; paper: ±2)"))
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. (a) Mean of {n} seeds; band: lowest to highest seed.",
            "(b, c) 15th, 50th and 85th percentile over examples of the input to one typical unit of the last"
            f" hidden layer. Bold: the first seed; thin: the other {n - 1}.",
        )
        return fig


def figure1_regimes(frames: dict[str, pd.DataFrame], zoom: tuple[float, float] = (0.94, 0.99)) -> Figure:
    """Accuracy, one column a regime: above on the paper's axis, below at its upper end (`zoom`)."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(4.0 * len(frames) + 0.6, 5.2), layout="constrained")
        axes = fig.subplots(
            2, len(frames), sharex="col", sharey="row", squeeze=False, gridspec_kw={"wspace": 0.08}
        )
        for (above, below), (regime, frame) in zip(axes.T, frames.items(), strict=True):
            accuracy(above, frame)
            accuracy(below, frame)
            above.set_title(regime.replace("_", "-"), loc="left")
            above.set_title(rates_of(frame), loc="right", fontsize=8, fontweight="normal")
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
