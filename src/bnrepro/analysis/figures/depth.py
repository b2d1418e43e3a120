"""The inputs to Inception's nonlinearities by depth: percentiles at both ends of training, and drift."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bnrepro.analysis.effects import depth
from bnrepro.analysis.effects import imagenet as effects
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.imagenet import LOOKS, counted, described
from bnrepro.analysis.figures.style import GREY


def inputs(frame: pd.DataFrame) -> Figure:
    """The input to each block's nonlinearity, by depth: percentiles at both ends of training, and drift."""
    table = depth.percentiles(frame)
    drift = depth.drift(depth.percentiles(frame, "typical"))
    variants = [v for v in effects.nets(frame) if v in table.index.get_level_values("variant")]
    blocks = [b for b in table.index.levels[1] if b in set(table.index.get_level_values("block"))]
    columns = min(2, len(variants) + 1)
    with mpl.rc_context(style.STYLE):
        rows = -(-(len(variants) + 1) // columns)
        fig = Figure(figsize=(style.WIDTH, 1.9 * rows + 0.9), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False).ravel()
        for ax, variant in zip(axes, variants, strict=False):
            _by_depth(ax, table.loc[variant], blocks, LOOKS[variant]["color"])
            ax.set_title(effects.NETS[variant], loc="left", color=LOOKS[variant]["color"])
        limits = [ax.get_ylim() for ax in axes[: len(variants)]]
        wide = np.ptp(limits, axis=1)
        for i, ax in enumerate(axes[: len(variants)]):
            if wide.max() > 8 * wide.min():  # one axis for all, and one net dwarfs another
                ax.set_yscale("asinh", linear_width=1)
                ax.yaxis.set_major_locator(
                    FixedLocator([0, *(s * 10.0**d for s in (-1, 1) for d in range(9))])
                )
                ax.yaxis.set_minor_locator(NullLocator())
                ax.yaxis.set_major_formatter("{x:g}")
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            ax.tick_params(labelleft=i % columns == 0)
            ax.set_ylabel("" if i % columns else "input to the nonlinearity")
        last = axes[len(variants)]
        for variant in variants:
            if variant in drift.index.get_level_values("variant"):
                seeds = drift[variant].unstack("seed").reindex(blocks)
                look = {**LOOKS[variant], "ms": 3.5, "lw": 1.2, "label": effects.NETS[variant]}
                last.plot(range(len(blocks)), seeds.mean(axis=1), **look)
        last.set_ylabel("drift / width")
        if columns > 1 and len(variants) % columns == 0:  # the place beside it is empty
            look = {"fontsize": 8.5, "loc": "center left", "bbox_to_anchor": (1.1, 0.5)}
            last.legend(**look).set_in_layout(False)
        else:
            last.legend(fontsize=6.5, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.32))
        last.set_yscale("log")
        last.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        last.yaxis.set_major_formatter("{x:g}")
        last.yaxis.set_minor_locator(NullLocator())
        last.set_title("drift of one unit's median", loc="left")
        for ax in axes:
            ax.set_xticks(range(len(blocks)), blocks, rotation=90, fontsize=7)
            ax.grid(axis="x", visible=False)
            ax.set_visible(ax in axes[: len(variants) + 1])
        style.caption(
            fig,
            f"{described(frame)}. By block, mean of {counted(frame)}. Line: median over units and examples; band:"
            " 15th to 85th percentile at the last step; dotted: at the first.",
            "Of an Inception block: the last convolution of its double 3 × 3 branch. Last panel: standard"
            " deviation over training of one unit's median, over its mean p85 - p15.",
        )
        return fig


def published(frame: pd.DataFrame, suffix: str = "") -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    if frame["name"].str.startswith("probe/").any():
        yield f"imagenet_percentiles{suffix}", inputs(frame)


def _by_depth(ax: Axes, table: pd.DataFrame, blocks: list[str], color: str) -> None:
    """Percentiles at the last step (band and line) and the first (dotted); index: block, seed, step."""
    ends = {}
    for end in ("first", "last"):
        found = getattr(table.groupby(level=["block", "seed"], observed=True), end)()
        ends[end] = found.groupby(level="block", observed=True).mean().reindex(blocks).reset_index(drop=True)
    style.intervals(ax, ends["last"].rename(columns={15: "low", 50: "value", 85: "high"}), color=color)
    ax.plot(ends["first"][[15, 85]], color=GREY, lw=1, ls=(0, (1, 1.5)))
