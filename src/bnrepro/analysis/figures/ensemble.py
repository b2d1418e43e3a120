"""Figure 4: errors of the members and of the ensemble, single crop and 10 crops."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnrepro.analysis.effects import ensemble as effects
from bnrepro.analysis.effects.imagenet import chance
from bnrepro.analysis.figures.imagenet import described
from bnrepro.analysis.figures.style import BLUE, GREEN, GREY, STYLE, VERMILION, caption, dots, span
from bnrepro.analysis.frame import MissingData

CROPS = {  # the end of the row's name: label and look
    "single": ("single crop", {"color": BLUE, "marker": "o"}),
    "10crop": ("10 crops", {"color": VERMILION, "marker": "s"}),
    "144crop": ("144 crops", {"color": GREEN, "marker": "D"}),
}
METRICS = {"correct": "top-1", "correct5": "top-5"}


def ensemble(frame: pd.DataFrame) -> Figure:
    """A row per metric. Left: the error of each network and of the ensemble; right: their differences."""
    found = effects.quantities(frame)
    if not found:
        raise MissingData("no rows of images classified correctly")
    metrics = [metric for metric in METRICS if any(name.startswith(f"{metric}/") for name in found)]
    crops = [crop for crop in CROPS if any(name.endswith(f"/{crop}") for name in found)]
    images = frame.loc[frame["name"] == found[0], "image"].nunique()
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10, 2.5 * len(metrics) + 0.9), layout="constrained")
        axes = fig.subplots(len(metrics), 2, squeeze=False, width_ratios=[1.3, 1])
        for metric, (left, right) in zip(metrics, axes, strict=True):
            for k, crop in enumerate(crops):
                if f"{metric}/{crop}" not in found:
                    continue
                look = CROPS[crop][1]
                levels = effects.levels(frame, f"{metric}/{crop}")
                nets = [net for net in levels if net != "mean member"]
                offset = 0.26 * (k - (len(crops) - 1) / 2)
                errors = pd.DataFrame([levels[net] for net in nets])
                dots(left, np.arange(len(nets)) + offset, errors, **look)
                left.set_yticks(range(len(nets)), [_words(net) for net in nets])
                left.set_ylim(len(nets) - 0.4, -0.6)
                left.axhspan(len(nets) - 1.5, len(nets) - 0.4, color="#f0f0f0", zorder=0)
                compared = effects.against(frame, f"{metric}/{crop}")
                dots(right, np.arange(len(compared)) + offset / 2, pd.DataFrame(compared.values()), **look)
                right.set_yticks(
                    range(len(compared)), [words.removeprefix("ensemble - ") for words in compared]
                )
                right.set_ylim(len(compared) - 0.4, -0.6)
            right.axvline(0, color=GREY, lw=0.9)
            left.set_title(f"{METRICS[metric]} error, %", loc="left")
            right.set_title(f"{METRICS[metric]} error of the ensemble, against", loc="left")
        axes[-1, 0].set_xlabel("%")
        axes[-1, 1].set_xlabel("points (left of 0: the ensemble is better)")
        handles = [Line2D([], [], **CROPS[crop][1], lw=1.8, ms=5, label=CROPS[crop][0]) for crop in crops]
        fig.legend(handles=handles, loc="outside upper center", ncols=3)
        several = frame["seed"].nunique() > 1
        best = (
            "Best: the member with the lowest error on images held out for this choice."
            if effects.chosen_elsewhere(frame)
            else "Best: the member with the lowest error on these same images, which favours it."
        )
        caption(
            fig,
            f"{described(frame)}, {span(frame['step'])} steps; {images:,} images. Guessing: an error of"
            f" {1 - chance(frame):.0%}. Line: 95% interval, on the right of paired differences.",
            f"{best} The intervals are over images and {frame['seed'].nunique()} ensembles, of six nets each."
            if several
            else f"{best} The intervals are over images, for these networks, not for another six.",
        )
        return fig


def _words(net: str) -> str:
    return f"member {net.removeprefix('ens')}" if net != effects.ENSEMBLE else "ensemble"


def published(
    frame: pd.DataFrame, paper: pd.DataFrame | None = None
) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "figure4_ensemble", ensemble(frame)
    yield "figure4_ensemble", effects.effects_table(frame, paper)
