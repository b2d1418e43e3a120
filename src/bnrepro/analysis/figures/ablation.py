"""Forest plot: what each change of section 4.2.1 does, taken from BN-x5 and, where measured, added to BN-Baseline."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.analysis.effects import imagenet as effects
from bnrepro.analysis.figures.imagenet import LOOKS, described
from bnrepro.analysis.figures.style import GREY, STYLE, WIDTH, caption, dots
from bnrepro.analysis.report import format_interval


def ablation(frame: pd.DataFrame) -> Figure:
    """A row per change, a column per direction that was measured; dots right of 0: the change helps.

    Ticks: single seeds.
    """
    pairs, table = effects.ablation(frame), effects.ablation_table(frame)
    table.index = pd.MultiIndex.from_tuples(pairs, names=["direction", "change"])
    changes = [change for change in effects.CHANGES if change in table.index.get_level_values("change")]
    directions = [way for way in effects.DIRECTIONS if way in table.index.get_level_values("direction")]
    with mpl.rc_context(STYLE):
        width = WIDTH if len(directions) == 1 else 10.5
        fig = Figure(figsize=(width, 0.42 * len(changes) + 1.9), layout="constrained")
        axes = fig.subplots(1, len(directions), sharey=True, sharex=True, squeeze=False)[0]
        for ax, direction in zip(axes, directions, strict=True):
            color = LOOKS["bn_baseline" if direction == "add" else "bn_x5"]["color"]
            ax.axvline(0, color=GREY, lw=0.9)
            rows = table[table.index.get_level_values("direction") == direction].droplevel("direction")
            heights = np.array([changes.index(change) for change in rows.index])
            for at, change in zip(heights, rows.index, strict=True):
                one, other = pairs[direction, change]
                ax.plot(100 * (one - other), np.full(len(one), at), "|", color=color, ms=7, mew=1, alpha=0.6)
                words = format_interval("points", *rows.loc[change, ["value", "low", "high"]])
                where = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
                ax.annotate(words.replace(" points", ""), (1.02, at), **where)
            dots(ax, heights, rows, color, filled=rows["p_holm"] < 0.05)
            ax.set_title(effects.DIRECTIONS[direction], loc="left")
            ax.set_xlabel("points of accuracy (right: the change helps)")
        axes[0].set_yticks(range(len(changes)), [effects.CHANGES[change] for change in changes])
        axes[0].set_ylim(len(changes) - 0.5, -0.5)
        n = sorted({len(one) for one, _ in pairs.values()})
        seeds = f"{n[0]} to {n[-1]}" if len(n) > 1 else f"{n[0]}"
        caption(
            fig,
            f"{described(frame)}. Accuracy at the last step, population statistics in BN where measured.",
            f"Dot: mean of {seeds} paired seeds; line: 95% interval; ticks: single seeds. Filled:"
            " p < 0.05 in a paired t-test after Holm's correction over all dots.",
        )
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "ablation_imagenet", ablation(frame)
    yield "ablation_imagenet", effects.ablation_table(frame)
