"""Accuracy of Inception and its variants against the rates, and scales of the initial weights, that were searched."""

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from bnrepro.analysis.effects import imagenet
from bnrepro.analysis.effects import search as effects
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.imagenet import LOOKS, counted, described
from bnrepro.analysis.figures.style import GREY

SCALES = {1: (style.AMBER, "o"), 2: (style.PINK, "s"), 4: (style.GREEN, "D")}


def search(frame: pd.DataFrame, scales: bool = False) -> Figure:
    """A line per net, or per scale of the initial weights, over the rates: means of seeds, and every seed as a dot."""
    by = effects.SCALE if scales else "variant"
    values = 100 * effects.searched(frame, [*([effects.SCALE] if scales else []), effects.RATE])
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 3.7), layout="constrained")
        ax = fig.subplots()
        for key in sorted(
            set(values.index.get_level_values(by)), key=None if scales else list(imagenet.NETS).index
        ):
            mine = values.xs(key, level=by)
            color, marker = SCALES[int(key)] if scales else (LOOKS[key]["color"], LOOKS[key]["marker"])
            line = "-" if scales else LOOKS[key]["linestyle"]
            name = f"weights × {key:g}" if scales else imagenet.NETS[key]
            means = mine.groupby(effects.RATE).mean()
            ax.plot(means.index, means, color=color, marker=marker, ls=line, ms=6, label=name)
            at = mine.index.get_level_values(effects.RATE)
            ax.plot(at, mine, ls="", marker=marker, color=color, mfc="none", ms=4)
        ax.axhline(100 * imagenet.chance(frame), color=GREY, lw=0.9, ls=(0, (1, 2)))
        rates = sorted(set(values.index.get_level_values(effects.RATE)))
        ax.set(xscale="log", ylim=(0, None), ylabel=f"{style.split(frame)} accuracy, %")
        ax.set_xlabel("rate" if scales else "base rate (BN-x5 trains at five times as much)")
        ax.xaxis.set_major_locator(FixedLocator(rates))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        style.caption(
            fig,
            f"{described(frame)}. Mean accuracy of the evaluations in the last third of the steps: lines and filled"
            f" marks of {counted(frame)}, hollow marks of each. BN: population statistics. Dotted: chance.",
        )
        return fig


def published(
    frame: pd.DataFrame, stem: str, scales: bool = False
) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield stem, search(frame, scales)
    yield stem, effects.search_table(frame, scales)
