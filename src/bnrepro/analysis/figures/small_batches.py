"""Test error against batch size: BN, its repairs, and the methods that need no batch."""

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bnrepro.analysis.effects import small_batches as effects
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.grid import batch_axis
from bnrepro.analysis.figures.style import AMBER, ARMS, BLUE, GREEN, PINK, SKY, VERMILION

LOOKS = {
    "baseline": {"color": VERMILION, "linestyle": ARMS["baseline"]["linestyle"], "marker": "s"},
    "bn": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "bn_exact": {"color": SKY, "linestyle": (0, (1, 1)), "marker": "v"},
    "bn_renorm": {"color": PINK, "linestyle": "-", "marker": "D"},
    "bn_ghost": {"color": GREEN, "linestyle": (0, (3, 1, 1, 1)), "marker": "^"},
    "groupnorm": {"color": AMBER, "linestyle": "-", "marker": "P"},
    "layernorm": {"color": "#444444", "linestyle": (0, (3, 1, 1, 1)), "marker": "X"},
    "weightnorm": {"color": "#8C564B", "linestyle": (0, (1, 1)), "marker": "d"},
}
PANELS = {
    "BN and its repairs": ("baseline", "bn", "bn_exact", "bn_renorm", "bn_ghost"),
    "normalizing without a batch": ("baseline", "bn", "groupnorm", "layernorm", "weightnorm"),
}
APART = 1.15  # times a method's rate: the next one's
TICKS = [0.5, 1, 2, 3, 5, 10, 20, 50, 90]


def by_batch_size(frame: pd.DataFrame) -> Figure:
    """Final test error against batch size, above each method's best rate; all axes logarithmic."""
    errors, own = 100 * (1 - effects.accuracies(frame)), effects.rates(frame)
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(9.5, 6.8), layout="constrained")
        (axes, below) = fig.subplots(2, 2, sharex=True, sharey="row", height_ratios=(2, 1))
        for ax, low, (title, methods) in zip(axes, below, PANELS.items(), strict=True):
            for method in (m for m in methods if m in errors):
                seeds = errors[method].unstack("seed")
                style.band(ax, seeds, ms=4.5, label=effects.METHODS[method], **LOOKS[method])
            for k, method in enumerate(m for m in methods if m in own):
                best = own[method].dropna() * APART ** (2 - k)  # else equal rates hide each other
                low.plot(best, ms=4, lw=0.8, **LOOKS[method])
            low.set(yscale="log", xlabel="batch size")
            ax.set_title(title)
        for ax in axes:  # after the lines: their means are arithmetic
            _scales(ax, errors)
            ax.legend(loc="best", handlelength=3)
        axes[0].set_ylabel("test error, %")
        below[0].set_ylabel("best rate, at 60")
        below[0].set_yticks(offered := sorted(frame["optim.lr"].unique()), [f"{rate:g}" for rate in offered])
        below[0].yaxis.set_minor_locator(NullLocator())
        below[0].set_ylim(offered[0] / 1.5, offered[-1] * 1.5)
        n, lost = frame["seed"].nunique(), effects.diverged(frame).drop(columns="bn_exact", errors="ignore")
        failures = int(lost.to_numpy(dtype=float, na_value=0).sum())
        words = f"{failures} of the runs diverged and count as 90%" if failures else "no run diverged"
        style.caption(
            fig,
            f"{style.setting(frame, rates=False)}; equal examples seen. Rate: best on held-out images for each"
            f" method and batch size, proportional to the batch within {offered[0]:g} to {offered[-1]:g} at 60"
            " (below, marks of equal rates stand above each other)."
            f" Mean of {n} seeds at the last step, band: lowest to highest seed; {words}.",
            "Exact statistics: the same nets as BN, judged with Algorithm 2."
            f" Ghost BN normalizes groups of {effects.GHOST} examples: up to there it is BN.",
        )
        return fig


def _scales(ax: Axes, errors: pd.DataFrame) -> None:
    batch_axis(ax, errors.index.get_level_values("data.batch_size").unique().sort_values())
    ax.set_yscale("log")
    ax.set_yticks(TICKS)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    low, high = errors.min().min(), errors.max().max()
    ax.set_ylim(max(0.8 * low, 0.1), 1.15 * high)


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "small_batches", by_batch_size(frame)
    yield "small_batches", effects.errors_table(frame)
    for against in ("bn", "baseline"):
        yield f"small_batches_minus_{against}", effects.differences(frame, against)
