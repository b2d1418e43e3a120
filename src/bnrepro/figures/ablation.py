"""Forest plot: what each change of section 4.2.1 does, added to BN-Baseline and taken from BN-x5."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# (pandas' hints give every selection a union of table, column and scalar)

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.effects import imagenet as effects
from bnrepro.figures.imagenet import LOOKS, described
from bnrepro.figures.style import STYLE, caption
from bnrepro.report import format_interval


def ablation(frame: pd.DataFrame) -> Figure:
    """A row per change, a column per direction; dots right of 0: the change helps. Ticks: single seeds."""
    pairs, table = effects.ablation(frame), effects.ablation_table(frame)
    table.index = pd.MultiIndex.from_tuples(pairs, names=["direction", "change"])
    changes = [change for change in effects.CHANGES if change in table.index.get_level_values("change")]
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.5, 0.42 * len(changes) + 1.9), layout="constrained")
        axes = fig.subplots(1, 2, sharey=True, sharex=True)
        for ax, (direction, title) in zip(axes, effects.DIRECTIONS.items(), strict=True):
            color = LOOKS["bn_baseline" if direction == "add" else "bn_x5"]["color"]
            ax.axvline(0, color="#888888", lw=0.9)
            for at, change in enumerate(changes):
                if (direction, change) not in pairs:
                    continue
                row = table.loc[(direction, change)]
                one, other = pairs[direction, change]
                ax.plot(100 * (one - other), np.full(len(one), at), "|", color=color, ms=7, mew=1, alpha=0.6)
                ax.hlines(at, 100 * row["low"], 100 * row["high"], color=color, lw=1.8)
                face = color if row["p_holm"] < 0.05 else "white"
                ax.plot(100 * row["value"], at, "o", color=color, mfc=face, ms=6)
                words = format_interval("points", row["value"], row["low"], row["high"]).replace(
                    " points", ""
                )
                ax.annotate(words, (1.02, at), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
            ax.set_title(title, loc="left")
            ax.set_xlabel("points of accuracy (right: the change helps)")
        axes[0].set_yticks(range(len(changes)), [effects.CHANGES[change] for change in changes])
        axes[0].set_ylim(len(changes) - 0.5, -0.5)
        n = sorted({len(one) for one, _ in pairs.values()})
        seeds = f"{n[0]} to {n[-1]}" if len(n) > 1 else f"{n[0]}"
        caption(
            fig,
            f"{described(frame)}. Accuracy at the last step, population statistics in BN where measured.",
            f"Dot: mean of {seeds} paired seeds; line: 95% bootstrap interval; ticks: single seeds. Filled:"
            " p < 0.05 in a paired t-test after Holm's correction over all dots.",
        )
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "ablation_imagenet", ablation(frame)
    yield "ablation_imagenet", effects.ablation_table(frame)
