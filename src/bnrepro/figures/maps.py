"""Heat maps over learning rate and initial standard deviation."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# (pandas' hints give every selection a union of table, column and scalar)

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bnrepro import results
from bnrepro.figures.style import ARMS, STYLE, caption, setting, split


def sensitivity(frame: pd.DataFrame) -> Figure:
    """Heat maps of accuracy at the last step, learning rate x init std: each arm, and BN - baseline.

    Cells: mean over seeds in percent (colour: error, logarithmic); ✕ with a count where seeds diverged.
    Framed: an arm's best cell.
    """
    cells = results.panel(frame).groupby(level=["optim.lr", "model.init_std"]).mean()
    if absent := [arm for arm in ARMS if arm not in cells]:
        raise results.MissingData(f"no runs of {' and '.join(absent)} in the panel")
    diverged = frame[frame["name"] == "diverged_at"]
    lost = diverged.groupby(["variant", "optim.lr", "model.init_std"])["seed"].nunique().to_dict()
    n = frame["seed"].nunique()
    better = LinearSegmentedColormap.from_list("arms", [ARMS["baseline"]["color"], "w", ARMS["bn"]["color"]])
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig = Figure(figsize=(11.5, 4.2), layout="constrained")
        axes = fig.subplots(1, 3, sharey=True)
        for ax, arm in zip(axes, ARMS, strict=False):
            table = cells[arm].unstack("model.init_std")
            marks = {(rate, std): f"\n✕ {count}/{n}" for (v, rate, std), count in lost.items() if v == arm}
            heat_map(ax, table, 1 - table, "{:.1f}", marks, LogNorm(0.01, 1.0), colormaps["cividis_r"])
            row, column = np.unravel_index(np.nanargmax(table.to_numpy()), table.shape)
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="#d00000", lw=2, zorder=3))
            ax.set_title(ARMS[arm]["label"])
        table = (cells["bn"] - cells["baseline"]).unstack("model.init_std")
        heat_map(axes[2], table, table, "{:+.1f}", {}, SymLogNorm(0.01, vmin=-1, vmax=1), better)
        axes[2].set_title("difference: with - without BN")
        axes[0].set_ylabel("learning rate")
        bar = fig.colorbar(axes[0].images[0], ax=axes[:2], shrink=0.9, pad=0.01, label="accuracy, %")
        bar.set_ticks([0.02, 0.05, 0.1, 0.2, 0.5, 0.9], labels=["98", "95", "90", "80", "50", "10"])
        bar.minorticks_off()
        bar = fig.colorbar(
            axes[2].images[0], ax=axes[2], shrink=0.9, pad=0.02, label="points (blue: BN better)"
        )
        bar.set_ticks(
            [-1, -0.1, -0.01, 0, 0.01, 0.1, 1], labels=["-100", "-10", "-1", "0", "+1", "+10", "+100"]
        )
        bar.minorticks_off()
        what = f"{setting(frame, rates=False)}. {split(frame).capitalize()} accuracy at the last step"
        caption(fig, f"{what}, mean of {n} seeds. Framed: each arm's best cell. ✕ k/{n}: k seeds diverged.")
        return fig


def heat_map(
    ax: Axes,
    table: pd.DataFrame,
    shade: pd.DataFrame,
    form: str,
    marks: dict,
    norm: Normalize,
    cmap: Colormap,
) -> None:
    """Rows: learning rates, lowest at the bottom; columns: init stds. Text: table, %; colour: shade."""
    ax.imshow(shade.to_numpy(), norm=norm, cmap=cmap, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        red, green, blue, _ = cmap(norm(shade.to_numpy()[row, column]))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 and not np.isnan(value)
        text = "–" if np.isnan(value) else form.format(round(100 * value, 1) + 0.0)  # + 0.0: no "-0.0"
        text += marks.get((table.index[row], table.columns[column]), "")
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")
    ax.set_xticks(range(table.shape[1]), [f"{std:g}" for std in table.columns])
    ax.set_yticks(range(table.shape[0]), [f"{rate:g}" for rate in table.index])
    ax.set_xlabel("init std")
    ax.tick_params(length=0)
