"""Which statistics normalize at inference: moving averages, Algorithm 2, or those of the test batch.

Only inference differs: training uses the batch's own statistics whatever the momentum, so nets of one seed
and batch size are the same nets at every momentum.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.frame import CHANCE, MissingData

STATISTICS = {
    "test/accuracy": "moving averages",
    "test/accuracy_population": "population (Algorithm 2)",
    "test/accuracy_batch": "test batch's own",
}
POPULATION = "test/accuracy_population"
CELL = ["model.bn_momentum", "data.batch_size"]
NEAR = 0.005  # accuracy: half a point


def cells(frame: pd.DataFrame) -> dict[tuple[float, int], dict[str, pd.DataFrame]]:
    """{(momentum, batch size): {name: table of step x seed}}; a diverged net's NaN counts as chance."""
    bn = frame[frame["variant"] == "bn"]
    if bn.empty:
        raise MissingData("no variant named bn")
    tidy.need_columns(bn, CELL)
    return {
        (float(momentum), int(size)): {
            name: tidy.curves(rows[rows["name"].isin(STATISTICS)].fillna({"value": CHANCE}), name)["bn"]
            for name in STATISTICS
        }
        for (momentum, size), rows in bn.groupby(CELL)
    }


def cost_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy lost by other statistics, population - other: at the last step, and averaged over time.

    Paired by seed, Holm's correction over all rows. Statistics of the test batch do not know the momentum:
    one row for "any", from each seed's mean over the momenta.
    """
    lost = {}  # (momentum, batch size, name, when): by seed
    for (momentum, size), table in cells(frame).items():
        for name in STATISTICS:
            if name != POPULATION:
                gap = (table[POPULATION] - table[name]).dropna()
                over_time = pd.Series(tidy.mean_over_time(gap), gap.columns)
                lost[momentum, size, name, "last step"] = gap.iloc[-1]
                lost[momentum, size, name, "mean over training"] = over_time
    every = pd.DataFrame(lost).T.rename_axis(["momentum", "batch size", "name", "when"])
    rows = []
    for name in ("test/accuracy", "test/accuracy_batch"):
        chosen = every.xs(name, level="name")
        if name == "test/accuracy_batch":
            chosen = pd.concat({"any": chosen.groupby(level=["batch size", "when"]).mean()})
        for (momentum, size, when), values in chosen.iterrows():
            shown = momentum if isinstance(momentum, str) else f"{momentum:g}"
            what = {"population minus": STATISTICS[name], "momentum": shown, "batch size": size, "when": when}
            rows.append({**what, "unit": "points", **statistics.paired(values)})
    return statistics.corrected(rows)


def caught_up(moving: pd.DataFrame, population: pd.DataFrame, near: float = NEAR) -> pd.Series:
    """By seed: first evaluated step after 0 from which on moving >= population - near; inf: never."""
    behind = (moving < population - near).loc[lambda d: d.index > 0]
    if behind.empty:
        raise MissingData("no evaluation after step 0")
    steps = {}
    for seed, late in behind.items():
        after = behind.index[behind.index > (late[late].index.max() if late.any() else 0)]
        steps[seed] = float(after[0]) if len(after) else np.inf
    return pd.Series(steps)


def catch_up_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Steps until the moving averages are within half a point of Algorithm 2 for good: median over seeds.

    A seed that is further behind at its last step is censored: counted as never, not dropped. "For good"
    means to the end of the run, at the resolution of the evaluation grid.
    """
    rows = []
    for (momentum, size), table in cells(frame).items():
        steps = caught_up(table["test/accuracy"], table[POPULATION])
        interval = statistics.estimate(steps, "median")
        rows.append((f"{momentum:g}", size, "steps", *interval, int(np.isinf(steps).sum())))
    columns = ["momentum", "batch size", "unit", "value", "low", "high", "n", "censored"]
    return pd.DataFrame(rows, columns=columns)
