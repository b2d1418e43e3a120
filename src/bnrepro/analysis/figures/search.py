"""Accuracy of Inception and its variants against the rates that were searched."""

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from bnrepro.analysis.effects import imagenet
from bnrepro.analysis.effects import search as effects
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.imagenet import LOOKS, counted, described, normalized_by
from bnrepro.analysis.figures.style import GREY


def search(frame: pd.DataFrame) -> Figure:
    """A line per net over the rates: means of seeds, and every seed as a tick."""
    values = 100 * effects.searched(frame)
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 3.7), layout="constrained")
        ax = fig.subplots()
        for net in imagenet.nets(frame):
            mine, look = values[net], LOOKS[net]
            means = mine.groupby(effects.RATE).mean()
            ax.plot(means.index, means, ms=6, mec="w", label=imagenet.NETS[net], **look)
            at = mine.index.get_level_values(effects.RATE)
            ax.plot(at, mine, ls="", marker="_", ms=13, mew=1.4, color=look["color"], alpha=0.7)
        ax.axhline(100 * imagenet.chance(frame), color=GREY, lw=0.9, ls=(0, (1, 2)))
        ax.set(xscale="log", ylim=(0, None), ylabel=f"{style.split(frame)} accuracy, %")
        ax.set_xlabel("base rate, that of Inception")
        ax.xaxis.set_major_locator(FixedLocator(sorted(values.index.unique(effects.RATE))))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        style.caption(
            fig,
            f"{described(frame)}. Mean accuracy of the evaluations in the last third of the steps: marks of"
            f" {counted(frame)}, ticks of each. Dotted: chance.{_of_bn(frame)}",
        )
        return fig


def _of_bn(frame: pd.DataFrame) -> str:
    nets = set(frame["variant"])
    words = f" BN: {normalized_by(frame)}." if any(net.startswith("bn") for net in nets) else ""
    return words + (" BN-x5 trains at five times the base rate." if "bn_x5" in nets else "")


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "rates_limited", search(frame)
    yield "rates_limited", effects.search_table(frame)


def published_scales(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table alone: where no net leaves chance there is nothing to draw."""
    yield "sigmoid_inits", effects.search_table(frame, scales=True)
