"""Maps of learning rate x init std per nonlinearity, with the boundary of divergence; the trainable area."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from bnrepro.analysis.effects import tolerance
from bnrepro.analysis.figures.maps import arms_maps, described
from bnrepro.analysis.figures.style import (
    ACTIVATIONS,
    ARMS,
    GREY,
    STYLE,
    WIDTH,
    caption,
    intervals,
    setting,
    split,
)

DIVERGED, TRAINED = "#E0006B", "k"


def maps(frame: pd.DataFrame) -> Figure:
    """Heat maps of accuracy at the last step; rows: nonlinearity, columns: without BN, with BN, difference.

    Outlined: cells where most seeds train to 90%, and cells where most seeds fail (effects.tolerance).
    """
    runs = tolerance.fates(frame)
    runs["trains"] = runs["accuracy"] >= tolerance.TRAINABLE
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig = Figure(figsize=(WIDTH, 8.6), layout="constrained")
        axes = fig.subplots(2, 3, sharex=True, sharey=True)
        for row, (activation, name) in zip(axes, ACTIVATIONS.items(), strict=True):
            here = runs[runs["activation"] == activation]
            arms_maps(row, here, f"{name}, ")
            for ax, arm in zip(row, ARMS, strict=False):
                of = here[here["variant"] == arm].groupby(["lr", "init_std"])
                outline(ax, of["trains"].mean().unstack().to_numpy() > 0.5, TRAINED, 0.045)
                outline(ax, of["diverged"].mean().unstack().to_numpy() > 0.5, DIVERGED, 0.045)
            row[0].set_ylabel("learning rate")
        for ax in axes[0]:
            ax.set_xlabel("")
        handles = [
            Line2D([], [], color=TRAINED, lw=2, label=f"most seeds reach {tolerance.TRAINABLE:.0%}"),
            Line2D([], [], color=DIVERGED, lw=2, label="most seeds fail"),
        ]
        fig.legend(handles=handles, loc="outside upper left", ncols=2)
        caption(fig, described(frame))
        return fig


def area(frame: pd.DataFrame) -> Figure:
    """Share of the cells that reach an accuracy, against that accuracy: how much hangs on the threshold."""
    errors = np.geomspace(0.5, 0.02, 29)
    table = tolerance.areas(frame, 1 - errors)
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        axes = fig.subplots(1, 2, sharey=True)
        for ax, (activation, name) in zip(axes, ACTIVATIONS.items(), strict=True):
            for arm, look in ARMS.items():
                rows = table[(table["activation"] == activation) & (table["arm"] == arm)]
                intervals(ax, 100 * rows[["value", "low", "high"]].set_axis(errors), **look)
            ax.axvline(1 - tolerance.TRAINABLE, color=GREY, lw=0.8, linestyle=":")
            ax.set(xscale="log", xlim=(0.5, 0.02), ylim=(0, 100), title=name)
            ax.set_xlabel(f"{split(frame)} accuracy reached, % (log. error)")
            ax.xaxis.set_major_locator(FixedLocator([0.5, 0.2, 0.1, 0.05, 0.03, 0.02]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(lambda x, _: f"{100 * (1 - x):.0f}")
        axes[0].set_ylabel("share of the cells, %")
        axes[1].legend(loc="lower left")
        cells = frame["optim.lr"].nunique() * frame["model.init_std"].nunique()
        each = f"share of the {cells} cells (rate x init std), mean of {frame['seed'].nunique()} seeds"
        caption(
            fig,
            f"{setting(frame, rates=False)}: {each}; band: 95% interval over seeds.",
            f'Dotted: {tolerance.TRAINABLE:.0%}, what "trainable" means unless another threshold is named.',
        )
        return fig


def multiples(frame: pd.DataFrame) -> Figure:
    """Share of nets that fail against the multiple of the rate, a panel each for nonlinearity and rate."""
    table = tolerance.failures(frame)
    panels = table[["activation", "rate"]].drop_duplicates().itertuples(index=False)
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = fig.subplots(1, len(table.groupby(["activation", "rate"])), sharey=True, squeeze=False)[0]
        for ax, (activation, rate) in zip(axes, panels, strict=True):
            here = table[(table["activation"] == activation) & (table["rate"] == rate)]
            for k, (arm, look) in enumerate(ARMS.items()):
                rows = here[here["share of nets that fail"] == arm]
                at = np.arange(len(rows)) + 0.16 * k - 0.08
                low, high, value = (100 * rows[c].to_numpy() for c in ("low", "high", "value"))
                ax.vlines(at, low, high, color=look["color"], lw=1.6)
                ax.plot(at, value, "os"[k], color=look["color"], ms=5, label=look["label"])
            factors = list(dict.fromkeys(here["multiple"]))
            ax.axvline(factors.index("5"), color=GREY, lw=0.8, ls=":", zorder=0)
            ax.axhline(50, color=GREY, lw=0.8, zorder=0)
            ax.set_xticks(np.arange(len(factors)), [f"{factor}×" for factor in factors])
            ax.set(title=f"{ACTIVATIONS[activation]}, rate {rate:g}", xlabel="of that rate", ylim=(-3, 103))
        axes[0].set_ylabel("nets that fail, %")
        axes[0].legend(loc="upper left", fontsize=8)
        n = int(table["n"].max())
        caption(
            fig,
            f"{setting(frame, rates=False)}, held-out images: share of {n} nets whose loss is not finite or whose"
            " accuracy collapses; line: exact 95% interval.",
            "The paper's claim is about 5 times the rate (dotted), and is judged against one half of the nets.",
        )
        return fig


def published_multiples(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "rate_multiples", multiples(frame)
    yield "rate_multiples", tolerance.failures(frame)


def outline(ax: Axes, inside: np.ndarray, color: str, inset: float = 0.0) -> None:
    """The border between the cells in the mask and the others, `inset` cell widths into the mask."""
    walled = np.pad(inside.astype(bool), 1, mode="edge")  # the map's own edge is no border
    half, lines = 0.5 - inset, []
    for row, column in np.argwhere(inside):
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            if not walled[row + 1 + down, column + 1 + right]:
                y, x = row + 0.5 + half * down, column + 0.5 + half * right
                lines.append(
                    [(x - 0.5 * abs(down), y - 0.5 * abs(right)), (x + 0.5 * abs(down), y + 0.5 * abs(right))]
                )
    ax.add_collection(LineCollection(lines, colors=color, linewidths=2.2, capstyle="projecting", zorder=3))


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "tolerance_maps", maps(frame)
    yield "tolerance_area", area(frame)
    yield "tolerance_area", tolerance.areas(frame)
    yield "tolerance_edges", tolerance.edges(frame)
