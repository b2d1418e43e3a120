"""The noise of a mini-batch's statistics, measured and in theory, and the generalization gap beside it.

Noise is measured in the finished BN nets: for M examples drawn at random, the variance over draws of the
batch mean ("mu", in units of sigma^2), of the biased batch variance ("var", of sigma^4), both of one typical
unit of the last hidden layer, and of an example's logits as its companions change ("logit").
"""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.effects import grid
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.frame import MissingData

NAMES = {"mu": "batch mean", "var": "batch variance", "logit": "logits"}
GAPS = {  # what is subtracted from what, so that a larger gap means more overfitting
    "accuracy": ("train/accuracy_eval", "test/accuracy"),
    "loss": ("test/loss", "train/loss_eval"),
}
UNITS = {"accuracy": "points", "loss": "number"}
ARMS = {
    "bn": "with BN",
    "baseline": "without BN",
    "bn_frozen": "BN, noise frozen",
    "bn_ghost": "Ghost BN of 16",
}
WHEN = {"loss": "equal training loss", "examples": "equal examples"}
FITTED = 0.99  # accuracy on the training images at which a net has fitted them


def noise(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Variances; rows: (data.batch_size of the training, seed), columns: M."""
    rows = frame[(frame["variant"] == "bn") & frame["name"].str.fullmatch(rf"noise/{what}/m\d+")]
    if rows.empty:
        raise MissingData(f"no rows named noise/{what}/m...")
    rows = rows.assign(m=rows["name"].str.rsplit("/m", n=1).str[-1].astype(int))
    return rows.pivot(index=["data.batch_size", "seed"], columns="m", values="value").sort_index(axis=1)


def theory(what: str, m: Any, kurtosis: Any = 3.0) -> np.ndarray:
    """For M independent draws: 1 / M, and the variance of the biased sample variance at that kurtosis."""
    m, kurtosis = np.asarray(m, dtype=float), np.asarray(kurtosis, dtype=float)
    if what == "mu":
        return 1 / m + 0 * kurtosis
    return (m - 1) ** 2 / m**3 * (kurtosis - (m - 3) / (m - 1))


def expected(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The theory for the nets of `noise`, each with its unit's own kurtosis."""
    measured = noise(frame, what)
    rows = frame[(frame["name"] == "noise/kurtosis") & (frame["variant"] == "bn")]
    kurtosis = rows.set_index(["data.batch_size", "seed"])["value"].reindex(measured.index)
    values = theory(what, measured.columns.to_numpy(), kurtosis.to_numpy()[:, None])
    return pd.DataFrame(values, measured.index, measured.columns)


def slopes(frame: pd.DataFrame, what: str) -> pd.Series:
    """Per seed: d log(variance) / d log M (theory: about -1) within each net, mean over a seed's nets."""
    per_doubling = grid.slope(np.log2(noise(frame, what)))
    return per_doubling.groupby(level="seed").mean()


def noise_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Measured / theory for each M, and the slopes; the mean over a seed's nets is one value per seed."""
    rows = []
    for what in ("mu", "var"):
        ratio = (noise(frame, what) / expected(frame, what)).groupby(level="seed").mean()
        for m in ratio:
            rows.append((f"variance of the {NAMES[what]}, measured / theory", m, "ratio", ratio[m]))
    for what in NAMES:
        text = f"log-log slope of the variance of the {NAMES[what]}, within a net"
        rows.append((text, "all", "number", slopes(frame, what)))
    table = [(quantity, m, unit, *statistics.estimate(values)) for quantity, m, unit, values in rows]
    return pd.DataFrame(table, columns=["quantity", "M", "unit", "value", "low", "high", "n"])


def gaps(frame: pd.DataFrame, kind: str = "accuracy", when: str = "loss") -> pd.DataFrame:
    """Generalization gap; rows: (variant, seed), columns: batch size; NaN: diverged, or not trained.

    when: "examples", at the last step, after equally many examples; "loss", where the training loss first
    falls to the lowest value that every run of the frame reaches, interpolated between evaluations: nets that
    have fitted their training images equally well.
    """
    if when == "examples":
        more, less = (last(frame, name, ["data.batch_size"], failed=None) for name in GAPS[kind])
        return (more - less).unstack("data.batch_size")
    names = {"train/loss_eval", *GAPS[kind]}
    run = ["variant", "seed", "data.batch_size"]
    lost = pd.MultiIndex.from_frame(frame.loc[frame["name"] == "diverged_at", run])
    rows = frame[frame["name"].isin(names) & (frame["step"] > 0)]
    rows = rows[~pd.MultiIndex.from_frame(rows[run]).isin(lost)]
    table = rows.pivot(index=[*run, "step"], columns="name", values="value").sort_index()
    if absent := names - set(table):
        raise MissingData(f"no rows named {' or '.join(sorted(absent))}")
    loss = table["train/loss_eval"]
    reached = loss.groupby(level=run).min().max()
    gap = table[GAPS[kind][0]] - table[GAPS[kind][1]]
    found = {}
    for net, curve in loss.groupby(level=run):
        curve, mine = curve.to_numpy(), gap.loc[net].to_numpy()
        first = int(np.argmax(curve <= reached))
        before = max(first - 1, 0)
        share = (curve[before] - reached) / (curve[before] - curve[first]) if first else 1.0
        found[net] = mine[before] + share * (mine[first] - mine[before])
    index = pd.MultiIndex.from_tuples([*found, *lost], names=run)
    return pd.Series([*found.values(), *[np.nan] * len(lost)], index).unstack("data.batch_size")


def fitted(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """(the runs at batch sizes at which the nets fit their training images, the other batch sizes).

    They fit where every variant's accuracy on its training images at the last step, evaluation mode, mean over
    seeds, is at least `FITTED`: at equal training loss the net that fits least decides where all are compared.
    A run that diverged does not count here; `gap_slopes` leaves its batch size out.
    """
    right = last(frame, "train/accuracy_eval", ["data.batch_size"], failed=None)
    mean = right.groupby(level=["data.batch_size", "variant"]).mean()
    short = mean.index[mean < FITTED].unique("data.batch_size")
    if (rest := frame[~frame["data.batch_size"].isin(short)]).empty:
        raise MissingData(f"at no batch size does every variant fit {FITTED:.0%} of its training images")
    return rest, sorted(int(m) for m in short)


def gap_slopes(
    frame: pd.DataFrame, kind: str = "accuracy", when: str = "loss"
) -> tuple[pd.DataFrame, list[int]]:
    """(slopes, batch sizes left out). Slopes: change of the gap per doubling, rows: seed, columns: variant.

    A batch size at which any run diverged has no gap there, and is left out of every run's slope. A variant
    that was trained at one batch size has none.
    """
    table = gaps(frame, kind, when)
    table = table.drop([arm for arm, rows in table.groupby(level=0) if rows.notna().any().sum() < 2], level=0)
    kept = table.dropna(axis=1)
    if kept.shape[1] < 2:
        raise MissingData("fewer than two batch sizes at which no run diverged")
    return grid.slope(kept).unstack("variant"), sorted(set(table.columns) - set(kept.columns))


def gap_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The gap and its differences between variants at each batch size, and their slopes per doubling."""
    rows = []
    for (kind, unit), (when, words) in product(UNITS.items(), WHEN.items()):
        table, trend = gaps(frame, kind, when), gap_slopes(frame, kind, when)[0]
        quantity = f"{kind} gap at {words}"
        for m, values in [*((m, table[m].unstack("variant")) for m in table), ("per doubling", trend)]:
            values = values.dropna(axis=1, how="all")
            present = [arm for arm in ARMS if arm in values]
            rows += [(quantity, m, ARMS[arm], unit, *statistics.estimate(values[arm])) for arm in present]
            for other in present[1:]:
                change = statistics.compared(values["bn"], values[other])
                rows.append((quantity, m, f"with BN - {ARMS[other]}", unit, *change))
    columns = ["quantity", "batch size", "arm", "unit", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)
