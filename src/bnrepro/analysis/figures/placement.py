"""Dots and intervals: the factorial effects of where BN stands and what it carries."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.analysis.effects import placement as effects
from bnrepro.analysis.figures.style import BLUE, GREY, STYLE, caption, dots, setting


def placement(frame: pd.DataFrame) -> Figure:
    """A row per activation. Left: main effects and interactions; right: each net with BN - the net without.

    In points of test accuracy; every panel has its own axis: an effect on sigmoids may dwarf one on ReLUs.
    """
    factorial, gains = effects.effects_table(frame), effects.gains_table(frame)
    gains["net"] = gains.apply(lambda r: _net(r["BN"], r["gamma, beta"], r["bias"]), axis=1)
    activations = list(dict.fromkeys(factorial["activation"]))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10, 2.6 * len(activations) + 0.8), layout="constrained")
        axes = fig.subplots(len(activations), 2, squeeze=False)
        for activation, (left, right) in zip(activations, axes, strict=True):
            _dots(left, factorial[factorial["activation"] == activation], "effect")
            _dots(right, gains[gains["activation"] == activation], "net")
            left.set_title(f"{activation}: effects on test accuracy")
            right.set_title(f"{activation}: with BN - without")
            left.axhline(len(effects.FACTORS) - 0.5, color=GREY, lw=0.9, ls=(0, (1, 1.5)))
        for ax in axes[-1]:
            ax.set_xlabel("points")
        n = frame["seed"].nunique()
        caption(
            fig,
            f"{setting(frame)}. Final test accuracy; mean of {n} paired seeds, line: 95% interval.",
            "Filled: p < 0.05 in a paired t-test after Holm's correction over the column. Each panel has its"
            " own horizontal axis.",
            "Below the dotted line: interactions, the effect of one factor at the other's first-named level"
            " minus that at its second.",
        )
        return fig


def _net(placement: str, affine: str, bias: str) -> str:
    return (
        f"{placement}, {'γ, β' if affine == 'with' else 'no γ, β'}, {'bias' if bias == 'on' else 'no bias'}"
    )


def _dots(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """One line of the axis per row of the table, from the top."""
    at = np.arange(len(table))
    ax.axvline(0, color=GREY, lw=0.9)
    dots(ax, at, table, BLUE, filled=table["p_holm"] < 0.05)
    ax.set_yticks(at, table[label])
    ax.set_ylim(len(table) - 0.5, -0.5)


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "placement", placement(frame)
    yield "placement", effects.effects_table(frame)
    yield "placement_minus_baseline", effects.gains_table(frame)
