"""Figure 4: six networks and the mean of their class probabilities, compared image by image.

Of one ensemble the intervals are over the images of the test set: the networks are taken as they are. Of several that
were trained independently they cover the choice of networks, too.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval

ENSEMBLE = "ensemble"
QUANTITIES = {  # row name: (words, key in results/paper.csv)
    "correct/single": ("top-1 error, single crop", "top1_error_single"),
    "correct/10crop": ("top-1 error, 10 crops", "top1_error_10crop"),
    "correct/144crop": ("top-1 error, 144 crops", "top1_error_144crop"),
    "correct5/single": ("top-5 error, single crop", "top5_error_single"),
    "correct5/10crop": ("top-5 error, 10 crops", "top5_error_10crop"),
    "correct5/144crop": ("top-5 error, 144 crops", "top5_error_144crop"),
}
CHOSEN_BY = "val_correct/single"  # which member is the best, on images that were held out


def errors(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """1 where the image was classified wrongly, else 0. Index: image; columns: members in order, ensemble.

    Of several ensembles (by seed): the share of them. An image that one of the networks lacks is an error
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


def best_members(frame: pd.DataFrame, name: str) -> dict[int, str]:
    """Of each ensemble, by number: the member with the lowest error on held-out images.

    Without such images it is chosen on the same ones, which flatters it and not the ensemble.
    """
    by = CHOSEN_BY if (frame["name"] == CHOSEN_BY).any() else name
    found = {}
    for number, rows in frame[frame["name"] == by].groupby("seed"):
        table = errors(rows, by)
        found[int(str(number))] = str(table[members(table)].mean().idxmin())
    return found


def chosen_elsewhere(frame: pd.DataFrame) -> bool:
    """Whether the best members were chosen on images that they are not judged by."""
    return bool((frame["name"] == CHOSEN_BY).any())


def against(frame: pd.DataFrame, name: str) -> dict[str, Interval]:
    """Error of the ensemble minus that of the mean and the best member, paired by image; below 0: better."""
    mean, best = [], []
    for number, chosen in best_members(frame, name).items():
        table = errors(frame[frame["seed"] == number], name)
        mean.append((table[ENSEMBLE] - table[members(table)].mean(axis=1)).round(12))
        best.append(table[ENSEMBLE] - table[chosen])
    return {
        "ensemble - mean member": statistics.crossed(mean),
        "ensemble - best member": statistics.crossed(best),
    }


def levels(frame: pd.DataFrame, name: str) -> dict[str, Interval]:
    """The error of every member, of their mean and of the ensemble, over images and, of several, over ensembles."""
    tables = [errors(rows, name) for _, rows in frame[frame["name"] == name].groupby("seed")]
    nets = members(tables[0])
    found = {net: statistics.crossed([table[net] for table in tables]) for net in nets}
    found["mean member"] = statistics.crossed([table[nets].mean(axis=1).round(12) for table in tables])
    return found | {ENSEMBLE: statistics.crossed([table[ENSEMBLE] for table in tables])}


def effects_table(frame: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """quantity, net, paper, unit, value, low, high, n (images). `paper`: results/paper.csv."""
    published = {} if paper is None else paper.set_index(["variant", "quantity"])["value"].to_dict()
    rows = []
    for name in quantities(frame):
        (words, key), table, found = QUANTITIES[name], errors(frame, name), levels(frame, name)
        said = {"mean member": "bn_inception", ENSEMBLE: "bn_inception_ensemble"}
        for net, interval in found.items():
            from_paper = format_interval("accuracy", published.get((said.get(net), key), np.nan))
            rows.append((words, net, from_paper, "accuracy", *interval._replace(n=len(table))))
        best = ", ".join(best_members(frame, name).values())
        several = "" if frame["seed"].nunique() == 1 else f", {frame['seed'].nunique()} ensembles"
        for words_of, interval in against(frame, name).items():
            net = words_of.replace("best member", f"best member ({best})") + several
            rows.append((words, net, "–", "points", *interval._replace(n=len(table))))
    if not rows:
        raise MissingData("no rows of images classified correctly")
    columns = ["quantity", "net", "paper", "unit", "value", "low", "high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["n"] = "images"  # what n counts, where it is not seeds
    return table
