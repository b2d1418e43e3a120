"""Tidy frame -> matplotlib Figure. Draws what it is given: reads no file, writes none, trains nothing.

Both arms keep one colour and one line style everywhere: the baseline orange and dashed, BN blue and solid.
The colours differ in all common kinds of colour blindness, the styles in print.
"""

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
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnrepro import results

ARMS = {
    "baseline": {"label": "without BN", "color": "#D55E00", "linestyle": (0, (4, 1.5))},
    "bn": {"label": "with BN", "color": "#0072B2", "linestyle": "-"},
}
DATA_SETS = {"mnist": "MNIST", "mnist5k": "MNIST (5,000 digits)"}
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def accuracy(ax: Axes, frame: pd.DataFrame) -> None:
    """Accuracy against steps, both arms: mean over seeds, and a band from the lowest to the highest."""
    curve = results.curves(frame, results.accuracy_name(frame))
    for arm, look in ARMS.items():
        if arm in curve.columns.get_level_values("variant"):
            seeds = curve[arm].dropna(how="all")
            low, high = seeds.min(axis=1), seeds.max(axis=1)
            ax.fill_between(seeds.index, low, high, color=look["color"], alpha=0.2, lw=0)
            ax.plot(seeds.index, seeds.mean(axis=1), **look)
    _steps_axis(ax, curve.index.max())


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
        _steps_axis(ax, curve.index.max())
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
        left.set(ylim=(0.7, 1.0), ylabel="accuracy", title=f"(a) {_split(frame)} accuracy")
        left.legend(loc="lower right")
        for ax, arm, letter in ((middle, "baseline", "b"), (right, "bn", "c")):
            percentiles(ax, frame, arm, limit)
            ax.set_title(f"({letter}) input to a sigmoid, {ARMS[arm]['label']}")
        middle.set_ylabel("input to one unit" + ("" if limit == 2 else f" (±{limit:g}; paper: ±2)"))
        n = frame["seed"].nunique()
        _caption(
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
            above.set_title(_rates(frame), loc="right", fontsize=8, fontweight="normal")
            above.set_xlabel("")
        axes[0, 0].set(ylim=(0.7, 1.0), ylabel="accuracy")
        axes[1, 0].set(ylim=zoom, ylabel=f"accuracy, {zoom[0]:g} to {zoom[1]:g}")
        axes[0, 0].legend(loc="lower right")
        every = pd.concat(frames.values())
        n = " or ".join(sorted({str(frame["seed"].nunique()) for frame in frames.values()}, key=int))
        what = f"{setting(every, rates=False)}, {_split(every)} accuracy"
        _caption(fig, f"{what}. Mean of {n} seeds; band: lowest to highest seed.")
        return fig


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
            _heat_map(ax, table, 1 - table, "{:.1f}", marks, LogNorm(0.01, 1.0), colormaps["cividis_r"])
            row, column = np.unravel_index(np.nanargmax(table.to_numpy()), table.shape)
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="#d00000", lw=2, zorder=3))
            ax.set_title(ARMS[arm]["label"])
        table = (cells["bn"] - cells["baseline"]).unstack("model.init_std")
        _heat_map(axes[2], table, table, "{:+.1f}", {}, SymLogNorm(0.01, vmin=-1, vmax=1), better)
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
        what = f"{setting(frame, rates=False)}. {_split(frame).capitalize()} accuracy at the last step"
        _caption(fig, f"{what}, mean of {n} seeds. Framed: each arm's best cell. ✕ k/{n}: k seeds diverged.")
        return fig


def _heat_map(
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


def setting(frame: pd.DataFrame, rates: bool = True) -> str:
    """For captions: "MNIST, batch 60, 50,000 steps; rate 0.1; init std 0.05", without what varies."""
    words = []
    for column, form in (("data.name", "{}"), ("data.batch_size", "batch {}"), ("train.steps", "{:,} steps")):
        if column in frame and frame[column].nunique() == 1:
            value = frame[column].iloc[0]
            words.append(form.format(DATA_SETS.get(value, value)))
    return ", ".join(words) + (f"; {_rates(frame)}" if rates else "")


def _rates(frame: pd.DataFrame) -> str:
    words = []
    for column, name in (("optim.lr", "rate"), ("model.init_std", "init std")):
        if column in frame:
            by_arm = frame.groupby("variant")[column].unique()
            values = {arm: "/".join(f"{v:g}" for v in sorted(by_arm[arm])) for arm in ARMS if arm in by_arm}
            same = len(set(values.values())) == 1
            each = ", ".join(f"{value} {ARMS[arm]['label']}" for arm, value in values.items())
            words.append(f"{name} {next(iter(values.values())) if same else each}")
    return "; ".join(words)


def _typical(frame: pd.DataFrame, arm: str) -> dict[int, pd.DataFrame]:
    """{percentile: table of step x seed} of the typical unit of the last hidden layer."""
    unit = results.typical_unit(frame)
    tables = {level: results.curves(frame, f"{unit}/p{level}") for level in (15, 50, 85)}
    if arm not in tables[50].columns.get_level_values("variant"):
        raise results.MissingData(f"no probe of {arm}")
    return {level: table[arm].dropna(how="all") for level, table in tables.items()}


def _split(frame: pd.DataFrame) -> str:
    return {"test": "test", "val": "validation"}[results.accuracy_name(frame).split("/")[0]]


def _steps_axis(ax: Axes, last: int) -> None:
    ax.set(xlim=(0, last), xlabel="training steps")
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}K" if x else "0"))


def _caption(fig: Figure, *lines: str) -> None:
    fig.supxlabel("\n".join(lines), fontsize=7.5, color="#444444")
