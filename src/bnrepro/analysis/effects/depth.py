"""The inputs to Inception's nonlinearities, block by block: their percentiles, and how far a unit's median wanders."""

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.frame import MissingData


def percentiles(frame: pd.DataFrame, unit: str = "all") -> pd.DataFrame:
    """Of the input to each block's nonlinearity. Index: variant, block, seed, step; columns: 15, 50, 85.

    `unit`: "typical" (one unit) or "all". Blocks are in order of depth; steps without a finite number are
    left out.
    """
    parts = frame["name"].str.extract(r"^probe/(\w+)/(typical|all)/p(15|50|85)$")
    rows = frame.assign(block=parts[0], level=parts[2])[parts[1] == unit]
    if rows.empty:
        raise MissingData("no probe of a nonlinearity's input")
    order = sorted(rows["block"].unique(), key=lambda name: (not name.startswith("conv"), name))
    rows = rows.assign(
        block=pd.Categorical(rows["block"], order, ordered=True), level=rows["level"].astype(int)
    )
    table = rows.set_index(["variant", "block", "seed", "step", "level"])["value"].unstack("level")
    return table.replace([np.inf, -np.inf], np.nan).dropna().sort_index()


def drift(table: pd.DataFrame) -> pd.Series:
    """How far a median wanders in training, over how wide its distribution is: by (variant, block, seed).

    Standard deviation over training (by time) of the median, divided by the mean of p85 - p15. `table`: as
    `percentiles`.
    """
    found = {}
    for run, rows in table.groupby(["variant", "block", "seed"], observed=True):
        at_step = rows.droplevel(["variant", "block", "seed"])
        if len(at_step) > 1:
            middle, width = at_step[50], tidy.mean_over_time(at_step[85] - at_step[15])
            found[run] = tidy.std_over_time(middle) / width if width > 0 else np.nan
    index = pd.MultiIndex.from_tuples(found, names=["variant", "block", "seed"])
    return pd.Series(list(found.values()), index, dtype=float)
