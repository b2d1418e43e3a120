"""Test error against batch size: BN, its repairs, and the methods that need no batch."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# (pandas' hints give every selection a union of table, column and scalar)

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bnrepro.effects import small_batches as effects
from bnrepro.figures.style import ARMS, STYLE, caption, setting

LOOKS = {
    "baseline": {
        "color": ARMS["baseline"]["color"],
        "linestyle": ARMS["baseline"]["linestyle"],
        "marker": "s",
    },
    "bn": {"color": ARMS["bn"]["color"], "linestyle": "-", "marker": "o"},
    "bn_exact": {"color": "#56B4E9", "linestyle": (0, (1, 1)), "marker": "v"},
    "bn_renorm": {"color": "#CC79A7", "linestyle": "-", "marker": "D"},
    "bn_ghost": {"color": "#009E73", "linestyle": (0, (3, 1, 1, 1)), "marker": "^"},
    "groupnorm": {"color": "#E69F00", "linestyle": "-", "marker": "P"},
    "layernorm": {"color": "#444444", "linestyle": (0, (3, 1, 1, 1)), "marker": "X"},
    "weightnorm": {"color": "#8C564B", "linestyle": (0, (1, 1)), "marker": "d"},
}
PANELS = {
    "BN and its repairs": ("baseline", "bn", "bn_exact", "bn_renorm", "bn_ghost"),
    "normalizing without a batch": ("baseline", "bn", "groupnorm", "layernorm", "weightnorm"),
}
TICKS = [0.5, 1, 2, 3, 5, 10, 20, 50, 90]


def by_batch_size(frame: pd.DataFrame) -> Figure:
    """Final test error (logarithmic) against batch size (logarithmic); all methods on one pair of axes."""
    errors = 100 * (1 - effects.accuracies(frame))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(9.5, 4.4), layout="constrained")
        axes = fig.subplots(1, 2, sharey=True)
        for ax, (title, methods) in zip(axes, PANELS.items(), strict=True):
            _lines(ax, errors, methods)
            ax.set_title(title)
            ax.legend(loc="best", handlelength=3)
        axes[0].set_ylabel("test error, %")
        n, lost = frame["seed"].nunique(), effects.diverged(frame).drop(columns="bn_exact", errors="ignore")
        failures = int(lost.to_numpy(dtype=float, na_value=0).sum())
        words = f"{failures} of the runs diverged and count as 90%" if failures else "no run diverged"
        caption(
            fig,
            f"{setting(frame, rates=False)}; equal examples seen, learning rate scaled with the batch size."
            f" At the last step; mean of {n} seeds, band: lowest to highest seed; {words}.",
            "Exact statistics: the same nets as BN, judged with Algorithm 2."
            f" Ghost BN normalizes groups of {effects.GHOST} examples: up to there it is BN.",
        )
        return fig


def _lines(ax: Axes, errors: pd.DataFrame, methods: tuple[str, ...]) -> None:
    for method in methods:
        if method in errors:
            seeds, look = errors[method].unstack("seed").dropna(how="all"), LOOKS[method]
            low, high = seeds.min(axis=1), seeds.max(axis=1)
            ax.fill_between(seeds.index, low, high, color=look["color"], alpha=0.15, lw=0)
            ax.plot(seeds.index, seeds.mean(axis=1), ms=4.5, label=effects.METHODS[method], **look)
    sizes = sorted(errors.index.get_level_values("data.batch_size").unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_xlabel("batch size")
    ax.set_yscale("log")
    ax.set_yticks(TICKS)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = errors.min().min(), errors.max().max()
    ax.set_ylim(max(0.8 * low, 0.1), 1.15 * high)


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "small_batches", by_batch_size(frame)
    yield "small_batches", effects.errors_table(frame)
    for against in ("bn", "baseline"):
        yield f"small_batches_minus_{against}", effects.differences(frame, against)
