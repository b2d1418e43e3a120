"""Dropout with and without BN: test accuracy and generalization gap against the dropout rate."""

from collections.abc import Iterator
from itertools import product

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
    activations = list(dict.fromkeys(activation for activation, _ in sizes))
    counts = list(dict.fromkeys(images for _, images in sizes))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(9, 3.6 * len(activations) + 0.8), layout="constrained")
        axes = fig.subplots(2 * len(activations), len(counts), sharex=True, squeeze=False)
        for i, (activation, (what, label)) in enumerate(product(activations, ROWS.items())):
            for ax, images in zip(axes[i], counts, strict=True):
                if (activation, images) not in sizes:
                    ax.set_visible(False)
                    continue
                for arm, look in ARMS.items():
                    seeds = 100 * tables[what][activation, images][arm].unstack("seed")
                    band(ax, seeds.dropna(axis=1), marker="o", ms=3.5, **look)
                ax.set_xlim(left=0)
                if what == "accuracy":
                    ax.set_title(f"{activation}, {images:,} images")
                else:
                    ax.axhline(0, color="#888888", lw=0.8)
            axes[i, 0].set_ylabel(label)
        for ax in axes[-1]:
            ax.set_xlabel("dropout rate")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        found = sorted(
            {table.index.get_level_values("seed").nunique() for table in _tables(tables["accuracy"])}
        )
        n = " or ".join(map(str, found))
        caption(
            fig,
            f"{setting(frame)}. At the last step; mean of {n} seeds, band: lowest to highest seed.",
            "Both accuracies in evaluation mode (no dropout, moving averages in BN). Each panel has its own"
            " vertical axis.",
        )
        return fig


def _tables(accuracy: dict) -> Iterator[pd.Series]:
    for arms in accuracy.values():
        yield arms["bn"]


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "dropout_bn", dropout(frame)
    yield "dropout_bn", effects.effects_table(frame)
