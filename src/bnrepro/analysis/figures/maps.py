"""Heat maps over learning rate and initial standard deviation."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from seaborn.utils import relative_luminance

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import tolerance
from bnrepro.analysis.figures.style import ARMS, STYLE, WIDTH, caption, setting, split

FRAME = "#d00000"


def sensitivity(frame: pd.DataFrame) -> Figure:
    """Heat maps of accuracy at the last step, learning rate x init std: each arm, and BN - baseline.

    Framed: an arm's best rate for each init std.
    """
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        axes = fig.subplots(1, 3, sharey=True)
        for ax, table in zip(axes, arms_maps(axes, tolerance.fates(frame)), strict=False):
            for column, row in enumerate(table.fillna(0).to_numpy().argmax(axis=0)):
                ax.add_patch(
                    Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, fill=False, ec=FRAME, lw=2, zorder=3)
                )
        axes[0].set_ylabel("learning rate")
        caption(fig, described(frame), "Framed: the arm's best rate for each init std.")
        return fig


def described(frame: pd.DataFrame) -> str:
    """For the captions of figures made of `arms_maps`."""
    n = frame["seed"].nunique()
    return (
        f"{setting(frame, rates=False)}. {split(frame).capitalize()} accuracy at the last step in %, mean of {n} seeds;"
        f" colour: error, logarithmic. ✕: all {n} seeds failed, ✕k: k of them. Failed: the loss was not finite (10%"
        " is counted), or accuracy is below half of the arm's best although a lower rate does not fail at the same"
        " init std. About 10 without ✕: nothing learned yet. Difference: with - without BN, points."
    )


def arms_maps(axes: np.ndarray, runs: pd.DataFrame, name: str = "") -> list[pd.DataFrame]:
    """Accuracy without BN, with BN (the tables returned, rate x init std), and the difference, on three axes.

    runs: effects.tolerance.fates of one nonlinearity. Colour: error, logarithmic, and for the difference the
    colours of the arms; it has no bar, as every cell has its number.
    """
    cells, n = runs.groupby(["variant", "lr", "init_std"]), runs["seed"].nunique()
    accuracy, failed = cells["accuracy"].mean(), cells["diverged"].sum()
    if absent := [arm for arm in ARMS if arm not in accuracy]:
        raise tidy.MissingData(f"no runs of {' and '.join(absent)} in the panel")
    tables = [accuracy[arm].unstack() for arm in ARMS]
    for ax, (arm, look), table in zip(axes, ARMS.items(), tables, strict=False):
        words = (100 * table).map("{:.1f}".format).where(table.notna(), "–")
        counts = failed[arm].unstack().reindex_like(table).fillna(0)
        words = words.where(counts == 0, words + counts.map("\n✕{:.0f}".format)).where(counts < n, "✕")
        heat_map(ax, words, 1 - table, LogNorm(0.02, 0.9), "cividis_r")
        ax.set_title(name + look["label"])
    difference = (accuracy["bn"] - accuracy["baseline"]).unstack()
    words = ((100 * difference).round(1) + 0.0).map("{:+.1f}".format)  # + 0.0: no "-0.0"
    colours = sns.blend_palette([ARMS["baseline"]["color"], "w", ARMS["bn"]["color"]], as_cmap=True)
    words = words.where(difference.notna(), "–")
    heat_map(axes[2], words, difference, SymLogNorm(0.01, vmin=-1, vmax=1), colours)
    axes[2].set_title(name + "difference")
    return tables


def heat_map(ax: Axes, words: pd.DataFrame, shade: pd.DataFrame, norm: Normalize, cmap: Any) -> None:
    """Rows: learning rates, lowest at the bottom; columns: init stds. Cells are one wide, from 0 on."""
    ticks = {"xticklabels": [f"{v:g}" for v in shade.columns], "yticklabels": [f"{v:g}" for v in shade.index]}
    sns.heatmap(shade, norm=norm, cmap=cmap, cbar=False, ax=ax, **ticks)
    colours = ax.collections[0]
    for (row, column), value in np.ndenumerate(shade.to_numpy()):
        dark = relative_luminance(colours.to_rgba(value)) < 0.25 and not np.isnan(value)
        look = {
            "ha": "center",
            "va": "center",
            "fontsize": 8.5,
            "linespacing": 1,
            "color": "w" if dark else "k",
        }
        ax.text(column + 0.5, row + 0.5, words.iloc[row, column], **look)
    ax.invert_yaxis()  # seaborn's first row is at the top
    ax.set(xlabel="init std", ylabel="")
    ax.tick_params(length=0, rotation=0)
