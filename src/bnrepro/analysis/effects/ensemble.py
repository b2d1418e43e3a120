"""Figure 4: six networks and the mean of their class probabilities, compared image by image.

Intervals are over the images of the evaluation set: the networks are taken as they are. They say how much
the choice of images matters, not how another six networks would do.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval

ENSEMBLE = "ensemble"
QUANTITIES = {  # row name: (words, key in results/paper.csv; the paper has 144 crops where we have 10)
    "correct/single": ("top-1 error, single crop", "top1_error_single"),
    "correct/10crop": ("top-1 error, 10 crops", "top1_error_144crop"),
    "correct5/single": ("top-5 error, single crop", "top5_error_single"),
    "correct5/10crop": ("top-5 error, 10 crops", "top5_error_144crop"),
}


def errors(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """1 where the image was classified wrongly, else 0. Index: image; columns: members in order, ensemble.

    Where a variant has several seeds: the share of them. An image that one of the networks lacks is an error
    of the frame, not of the network.
    """
    rows = frame[frame["name"] == name]
    if rows.empty:
        raise MissingData(f"no rows named {name}")
    table = 1 - rows.pivot_table(index="image", columns="variant", values="value", aggfunc="mean")
    found = [v for v in sorted(table, key=lambda v: (len(v), v)) if v.startswith("ens") and v != ENSEMBLE]
    if ENSEMBLE not in table or len(found) < 2:
        raise MissingData("an ensemble and at least two members are compared")
    if table.isna().any(axis=None):
        raise ValueError(f"{name}: not every network has every image")
    return table[[*found, ENSEMBLE]]


def quantities(frame: pd.DataFrame) -> list[str]:
    return [name for name in QUANTITIES if (frame["name"] == name).any()]


def members(table: pd.DataFrame) -> list[str]:
    return [variant for variant in table if variant != ENSEMBLE]


def best_member(table: pd.DataFrame) -> str:
    """Chosen on the same images, which flatters it and not the ensemble."""
    return table[members(table)].mean().idxmin()


def against(table: pd.DataFrame) -> dict[str, Interval]:
    """Error of the ensemble minus that of the mean and the best member, paired by image; below 0: better."""
    mean, best = table[members(table)].mean(axis=1), table[best_member(table)]
    return {
        "ensemble - mean member": statistics.estimate((table[ENSEMBLE] - mean).round(12)),
        "ensemble - best member": statistics.estimate(table[ENSEMBLE] - best),
    }


def effects_table(frame: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """quantity, net, paper, unit, value, low, high, n (images). `paper`: results/paper.csv."""
    published = {} if paper is None else paper.set_index(["variant", "quantity"])["value"].to_dict()
    rows = []
    for name in quantities(frame):
        (words, key), table = QUANTITIES[name], errors(frame, name)
        said = {"mean member": "bn_inception", ENSEMBLE: "bn_inception_ensemble"}
        each = {variant: table[variant] for variant in members(table)}
        each |= {"mean member": table[members(table)].mean(axis=1).round(12), ENSEMBLE: table[ENSEMBLE]}
        for net, values in each.items():
            number = published.get((said.get(net), key), np.nan)
            crops = " (144 crops)" if key.endswith("144crop") and np.isfinite(number) else ""
            from_paper = format_interval("accuracy", number) + crops
            rows.append((words, net, from_paper, "accuracy", *statistics.estimate(values)))
        best = best_member(table)
        for words_of, interval in against(table).items():
            net = words_of.replace("best member", f"best member ({best})")
            rows.append((words, net, "–", "points", *interval))
    if not rows:
        raise MissingData("no rows of images classified correctly")
    columns = ["quantity", "net", "paper", "unit", "value", "low", "high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["n"] = "images"  # what n counts, where it is not seeds
    return table
