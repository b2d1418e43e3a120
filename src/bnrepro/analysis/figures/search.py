"""Accuracy of Inception and its variants against the rates, and scales of the initial weights, that were searched."""

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

OF_SCALES = [(style.AMBER, "o"), (style.PINK, "s"), (style.GREEN, "D"), (style.BLUE, "^"), (GREY, "v")]


def search(frame: pd.DataFrame, scales: bool = False) -> Figure:
    """A line per net, or per scale of the initial weights, over the rates: means of seeds, and every seed as a tick."""
    by, nets = (effects.SCALE if scales else "variant"), imagenet.nets(frame)
    values = 100 * effects.searched(frame, [*([effects.SCALE] if scales else []), effects.RATE])
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 3.7), layout="constrained")
        ax = fig.subplots()
        for i, key in enumerate(sorted(values.index.unique(by)) if scales else nets):
            mine = values.xs(key, level=by)
            look = {"color": OF_SCALES[i % 5][0], "marker": OF_SCALES[i % 5][1]} if scales else LOOKS[key]
            name = f"initial weights × {key:g}" if scales else imagenet.NETS[key]
            means = mine.groupby(effects.RATE).mean()
            ax.plot(means.index, means, ms=6, mec="w", label=name, **look)
            at = mine.index.get_level_values(effects.RATE)
            ax.plot(at, mine, ls="", marker="_", ms=13, mew=1.4, color=look["color"], alpha=0.7)
        ax.axhline(100 * imagenet.chance(frame), color=GREY, lw=0.9, ls=(0, (1, 2)))
        ax.set(xscale="log", ylim=(0, None), ylabel=f"{style.split(frame)} accuracy, %")
        ax.set_xlabel("rate" if scales else "base rate, that of Inception")
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


def published(
    frame: pd.DataFrame, stem: str, scales: bool = False
) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield stem, search(frame, scales)
    yield stem, effects.search_table(frame, scales)
