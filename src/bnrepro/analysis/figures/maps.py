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
from bnrepro.analysis.figures.style import ARMS, STYLE, caption, setting, split


def sensitivity(frame: pd.DataFrame) -> Figure:
    """Heat maps of accuracy at the last step, learning rate x init std: each arm, and BN - baseline.

    Cells: mean over seeds in percent (colour: error, logarithmic); ✕ with a count where seeds diverged.
    Framed: an arm's best cell.
    """
    cells = tidy.panel(frame).groupby(level=["optim.lr", "model.init_std"]).mean()
    if absent := [arm for arm in ARMS if arm not in cells]:
        raise tidy.MissingData(f"no runs of {' and '.join(absent)} in the panel")
    diverged = frame[frame["name"] == "diverged_at"]
    lost = diverged.groupby(["variant", "optim.lr", "model.init_std"])["seed"].nunique().to_dict()
    n = frame["seed"].nunique()
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig = Figure(figsize=(11.5, 4.2), layout="constrained")
        axes = fig.subplots(1, 3, sharey=True)
        for ax, arm in zip(axes, ARMS, strict=False):
            table = cells[arm].unstack("model.init_std")
            marks = {(rate, std): f"\n✕ {count}/{n}" for (v, rate, std), count in lost.items() if v == arm}
            accuracy_map(ax, table, marks)
            row, column = np.unravel_index(np.nanargmax(table.to_numpy()), table.shape)
            ax.add_patch(Rectangle((column, row), 1, 1, fill=False, ec="#d00000", lw=2, zorder=3))
            ax.set_title(ARMS[arm]["label"])
        difference_map(axes[2], (cells["bn"] - cells["baseline"]).unstack("model.init_std"))
        axes[2].set_title("difference: with - without BN")
        axes[0].set_ylabel("learning rate")
        colour_bars(fig, axes[:2], axes[2:], shrink=0.9)
        what = f"{setting(frame, rates=False)}. {split(frame).capitalize()} accuracy at the last step"
        caption(fig, f"{what}, mean of {n} seeds. Framed: each arm's best cell. ✕ k/{n}: k seeds diverged.")
        return fig


def accuracy_map(ax: Axes, table: pd.DataFrame, marks: dict[tuple[float, float], str]) -> None:
    """Accuracy (0 to 1) as `heat_map`; colour: error, logarithmic. marks: {(rate, init std): text}."""
    heat_map(ax, table, 1 - table, "{:.1f}", marks, LogNorm(0.01, 1.0), "cividis_r")


def difference_map(ax: Axes, table: pd.DataFrame) -> None:
    """Accuracy with BN - without as `heat_map`, in the colours of the arms."""
    arms = sns.blend_palette([ARMS["baseline"]["color"], "w", ARMS["bn"]["color"]], as_cmap=True)
    heat_map(ax, table, table, "{:+.1f}", {}, SymLogNorm(0.01, vmin=-1, vmax=1), arms)


def heat_map(
    ax: Axes, table: pd.DataFrame, shade: pd.DataFrame, form: str, marks: dict, norm: Normalize, cmap: Any
) -> None:
    """Rows: learning rates, lowest at the bottom; columns: init stds. Text: table, %; colour: shade.

    Cells are one wide, from 0 on.
    """
    ticks = {"xticklabels": [f"{v:g}" for v in table.columns], "yticklabels": [f"{v:g}" for v in table.index]}
    sns.heatmap(shade, norm=norm, cmap=cmap, cbar=False, ax=ax, **ticks)
    colours = ax.collections[0]
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        shown = "–" if np.isnan(value) else form.format(round(100 * value, 1) + 0.0)  # + 0.0: no "-0.0"
        shown += marks.get((table.index[row], table.columns[column]), "")
        dark = relative_luminance(colours.to_rgba(shade.iloc[row, column])) < 0.25
        color = "w" if dark and not np.isnan(value) else "k"
        ax.text(column + 0.5, row + 0.5, shown, ha="center", va="center", fontsize=8, color=color)
    ax.invert_yaxis()  # seaborn's first row is at the top
    ax.set(xlabel="init std", ylabel="")
    ax.tick_params(length=0, rotation=0)


def colour_bars(fig: Figure, accuracies: np.ndarray, differences: np.ndarray, shrink: float) -> None:
    """Beside the axes of accuracy maps, and beside those of difference maps."""
    look = {"ax": accuracies, "shrink": shrink, "pad": 0.01, "label": "accuracy, %"}
    bar = fig.colorbar(accuracies.flat[0].collections[0], **look)
    bar.set_ticks([0.02, 0.05, 0.1, 0.2, 0.5, 0.9], labels=["98", "95", "90", "80", "50", "10"])
    bar.minorticks_off()
    look = {"ax": differences, "shrink": shrink, "pad": 0.02, "label": "points (blue: BN better)"}
    bar = fig.colorbar(differences.flat[0].collections[0], **look)
    ticks = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1]
    bar.set_ticks(ticks, labels=[f"{100 * tick:+g}" if tick else "0" for tick in ticks])
    bar.minorticks_off()
