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


def percentiles(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    """The {15, 50, 85}th percentiles of a typical last-hidden unit's input: of the typical seed, a line each.

    The band of each is the middle half of the seeds. No mean over seeds: their units drift in different
    directions, and an average would look calmer than any.
    """
    color, ends, seed = ARMS[arm]["color"], [], typical_seed(frame, arm)
    for level, curve in _typical(frame, arm).items():
        low, high = curve.quantile(0.25, axis=1), curve.quantile(0.75, axis=1)
        ax.fill_between(curve.index, low, high, color=color, alpha=0.3 if level == 50 else 0.14, lw=0)
        ax.plot(curve.index, curve[seed], color=color, lw=2.0 if level == 50 else 1.2)
        ends.append((float(curve[seed].iloc[-1]), f"{level}%"))
        steps_axis(ax, curve.index.max())
    height, apart = -np.inf, 0.06 * np.ptp(ax.get_ylim())
    for end, label in ends:  # labels of lines that end close together are moved apart
        height = max(end, height + apart)
        ax.annotate(label, (1.015, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def typical_seed(frame: pd.DataFrame, arm: str) -> int:
    """The seed whose median input moves as much in training as the (lower) median seed's."""
    middle = _typical(frame, arm)[50].dropna()
    variance = tidy.mean_over_time((middle - tidy.mean_over_time(middle)) ** 2)
    ranked = pd.Series(variance, middle.columns).sort_values()
    return int(ranked.index[(len(ranked) - 1) // 2])


def figure1(frame: pd.DataFrame) -> Figure:
    """The paper's Figure 1: (a) accuracy, (b, c) the input to one typical sigmoid, without and with BN.

    Accuracy is shown from 0.7 to 1 as in the paper: what lies below is cut. The inputs share one axis, at
    least -2 to 2 as in the paper, and as wide as what is drawn.
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.5, 3.9), layout="constrained")
        left, middle, right = fig.subplots(1, 3, width_ratios=[1.2, 1, 1])
        accuracy(left, frame)
        left.set(ylim=(0.7, 1.0), ylabel="accuracy", title=f"(a) {split(frame)} accuracy")
        left.legend(loc="lower right")
        inputs = ((middle, "baseline", "b"), (right, "bn", "c"))
        for ax, arm, letter in inputs:
            percentiles(ax, frame, arm)
            ax.set_title(f"({letter}) input to a sigmoid, {ARMS[arm]['label']}")
        limit = max(2.0, *(np.abs(ax.get_ylim()).max() for ax, *_ in inputs))
        for ax, *_ in inputs:
            ax.set_ylim(-limit, limit)
        middle.set_ylabel("input to one unit" + ("" if limit == 2 else " (paper: -2 to 2)"))
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. (a) Mean of {n} seeds; band: lowest to highest seed.",
            "(b, c) 15th, 50th and 85th percentile over examples of the input to one typical unit of the last hidden"
            " layer.",
            "Lines: the seed whose median moves as much as the median seed's; bands: the middle half of the"
            f" {n} seeds.",
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
