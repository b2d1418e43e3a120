"""Test error over training with three kinds of statistics in BN at inference."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bnrepro.analysis.effects import inference as effects
from bnrepro.analysis.figures.style import ARMS, PINK, STYLE, band, caption, setting

LOOKS = {
    "test/accuracy": {"color": ARMS["bn"]["color"], "linestyle": "-", "lw": 1.8},
    "test/accuracy_population": {"color": "#222222", "linestyle": (0, (4, 1.5)), "lw": 1.4},
    "test/accuracy_batch": {"color": PINK, "linestyle": (0, (1, 1)), "lw": 1.8},
}


def over_training(frame: pd.DataFrame) -> Figure:
    """Test error against steps (both logarithmic): rows are momenta, columns batch sizes.

    In the corner: median step from which on the moving averages stay within half a point of Algorithm 2.
    """
    cells = effects.cells(frame)
    momenta, sizes = (sorted(set(values)) for values in zip(*cells, strict=True))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(2.5 * len(sizes) + 1, 2.0 * len(momenta) + 1.1), layout="constrained")
        axes = fig.subplots(len(momenta), len(sizes), sharex=True, sharey=True, squeeze=False)
        for (momentum, size), tables in cells.items():
            ax = axes[momenta.index(momentum), sizes.index(size)]
            for name, look in LOOKS.items():
                error = 100 * (1 - tables[name].loc[lambda d: d.index > 0])
                band(ax, error, label=effects.STATISTICS[name], **look)
            steps = effects.caught_up(tables["test/accuracy"], tables[effects.POPULATION])
            median, never = float(np.median(steps)), int(np.isinf(steps).sum())
            words = "never" if np.isinf(median) else f"from step {median:,.0f}"
            words += f" ({never}/{len(steps)} never)" if never and np.isfinite(median) else ""
            ax.text(0.03, 0.05, words, transform=ax.transAxes, ha="left", va="bottom", fontsize=8)
        for ax in axes.flat:
            ax.set(xscale="log", yscale="log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
            ax.xaxis.set_major_formatter("{x:,.0f}")
            ax.margins(x=0.02)
        for ax, size in zip(axes[0], sizes, strict=True):
            ax.set_title(f"batch size {size}")
        for ax in axes[-1]:
            ax.set_xlabel("training steps")
        for ax, momentum in zip(axes[:, 0], momenta, strict=True):
            ax.set_ylabel(f"momentum {momentum:g}\ntest error, %")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. Mean of {n} seeds, band: lowest to highest seed. Momentum: weight of the new"
            " batch in the moving average.",
            "In the corner: median step from which on the moving averages stay within half a point of"
            " Algorithm 2 (or do better).",
        )
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "inference_stats", over_training(frame)
    yield "inference_stats_cost", effects.cost_table(frame)
    yield "inference_stats_catch_up", effects.catch_up_table(frame)
