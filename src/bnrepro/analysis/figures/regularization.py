"""Dropout with and without BN: test accuracy and generalization gap against the dropout rate."""

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.analysis.effects import regularization as effects
from bnrepro.analysis.figures.style import ARMS, STYLE, band, caption, setting

ROWS = {"accuracy": "test accuracy, %", "gap": "training - test, points"}


def dropout(frame: pd.DataFrame) -> Figure:
    """Above: final test accuracy; below: generalization gap; a column per nonlinearity and training set."""
    tables = {what: dict(effects.by_images(effects.measured(frame, what))) for what in ROWS}
    sizes = list(tables["accuracy"])
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(2.4 * len(sizes) + 0.6, 5.2), layout="constrained")
        axes = fig.subplots(2, len(sizes), sharex=True, squeeze=False)
        for (what, label), row in zip(ROWS.items(), axes, strict=True):
            for ax, images in zip(row, sizes, strict=True):
                for arm, look in ARMS.items():
                    seeds = 100 * tables[what][images][arm].unstack("seed")
                    band(ax, seeds, marker="o", ms=3.5, **look)
                ax.set_xlim(left=0)
            row[0].set_ylabel(label)
        for ax, (activation, images) in zip(axes[0], sizes, strict=True):
            ax.set_title(f"{activation}, {images:,} images")
        for ax in axes[1]:
            ax.set_xlabel("dropout rate")
            ax.axhline(0, color="#888888", lw=0.8)
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. At the last step; mean of {n} seeds, band: lowest to highest seed.",
            "Both accuracies in evaluation mode (no dropout, moving averages in BN). Each panel has its own"
            " vertical axis.",
        )
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "dropout_bn", dropout(frame)
    yield "dropout_bn", effects.effects_table(frame)
