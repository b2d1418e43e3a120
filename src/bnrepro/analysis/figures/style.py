"""What all figures share: one look per arm, bands and dots, the axis of steps, captions that say the setting.

Both arms keep one colour and one line style everywhere: the baseline orange and dashed, BN blue and solid.
The colours differ in all common kinds of colour blindness, the styles in print.
"""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects.grid import MEETS

BLUE, AMBER, GREEN, VERMILION, PINK, *_, SKY = sns.color_palette("colorblind").as_hex()
GREY = "#777777"
WIDTH = 7.2  # inches; at 900 pixels, as GitHub shows it, letters of 8.5 points are as high as its own text
ARMS = {
    "baseline": {"label": "without BN", "color": VERMILION, "linestyle": (0, (4, 1.5))},
    "bn": {"label": "with BN", "color": BLUE, "linestyle": "-"},
}
ACTIVATIONS = {"sigmoid": "sigmoid", "relu": "ReLU"}
DATA_SETS = {
    "mnist": "MNIST",
    "mnist5k": "MNIST (4,000 digits)",
    "tiny_imagenet": "Tiny ImageNet",
    "imagenette": "Imagenette",
    "shapes": "drawn shapes",
}
STYLE = {
    **sns.axes_style("ticks"),
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "patch.force_edgecolor": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def setting(frame: pd.DataFrame, rates: bool = True) -> str:
    """For captions: "MNIST, batch 60, 50,000 steps; rate 0.1; init std 0.05", without what varies."""
    words = []
    for column, form in (("data.name", "{}"), ("data.batch_size", "batch {}"), ("train.steps", "{:,} steps")):
        if column in frame and frame[column].nunique() == 1:
            value = frame[column].iloc[0]
            words.append(form.format(DATA_SETS.get(value, value)))
    return ", ".join(words) + (f"; {rates_of(frame)}" if rates else "")


def rates_of(frame: pd.DataFrame) -> str:
    words = []
    for column, name in (("optim.lr", "rate"), ("model.init_std", "init std")):
        if column in frame:
            by_arm = frame.groupby("variant")[column].unique()
            values = {arm: "/".join(f"{v:g}" for v in sorted(by_arm[arm])) for arm in ARMS if arm in by_arm}
            same = len(set(values.values())) == 1
            each = ", ".join(f"{value} {ARMS[arm]['label']}" for arm, value in values.items())
            rule = frame.get("optim.batch_rule") if column == "optim.lr" else None
            rule = "" if rule is None or (rule != "linear").any() else f" x batch / {MEETS}"
            words.append(f"{name} {next(iter(values.values())) if same else each}{rule}")
    return "; ".join(words)


def span(counts: pd.Series) -> str:
    """ "3", or "7,000 to 24,000"."""
    return " to ".join(dict.fromkeys(f"{count:,}" for count in (counts.min(), counts.max())))


def split(frame: pd.DataFrame) -> str:
    return {"test": "test", "val": "validation"}[tidy.accuracy_name(frame).split("/")[0]]


def band(ax: Axes, seeds: pd.DataFrame, **look: Any) -> None:
    """The mean over seeds (columns) against the index, and a band from the lowest to the highest.

    The mean is the geometric one on an axis that is logarithmic already, not on one that becomes it later.
    """
    long = seeds.stack()
    sns.lineplot(
        x=long.index.get_level_values(0).to_numpy(),
        y=long.to_numpy(),
        errorbar=("pi", 100),
        seed=0,
        err_kws={"alpha": 0.18 * look.get("alpha", 1), "lw": 0},
        legend=False,
        ax=ax,
        **{"mec": look["color"], "mew": 1, **look},
    )


def intervals(ax: Axes, table: pd.DataFrame, **look: Any) -> None:
    """The column value against the index, and a band between the columns low and high."""
    ax.fill_between(table.index, table["low"], table["high"], color=look["color"], alpha=0.18, lw=0)
    ax.plot(table.index, table["value"], **look)


def dots(
    ax: Axes, at: np.ndarray, table: pd.DataFrame, color: str, marker: str = "o", filled: Any = True
) -> None:
    """A dot (value) and a line (low to high) per row, times 100, at these heights; hollow unless `filled`."""
    value, low, high = (100 * table[c].to_numpy(dtype=float) for c in ("value", "low", "high"))
    full = np.broadcast_to(filled, value.shape)
    ax.hlines(at, low, high, color=color, lw=1.8)
    ax.plot(value, at, marker, color=color, mfc="w", ms=5.5)
    ax.plot(value[full], at[full], marker, color=color, ms=5.5)


def steps_axis(ax: Axes, last: int) -> None:
    ax.set(xlim=(0, last), xlabel="training steps")
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}K" if x else "0")


def caption(fig: Figure, *lines: str) -> None:
    """A paragraph a line, wrapped to the width of the figure."""
    wrapped = [textwrap.fill(line, int(15.5 * fig.get_figwidth())) for line in lines]
    fig.supxlabel("\n".join(wrapped), fontsize=8.5, color="#444444")
