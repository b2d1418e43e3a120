"""Interactive figures as Vega-Lite charts, from results/ alone; small enough to lie in a page.

Each function of `FROM_RESULTS` takes the folder of results. Those of `classroom.py` need none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import grid as design
from bnrepro.analysis.effects.imagenet import NETS
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.figures import style
from bnrepro.analysis.site.classroom import FOR_CLASS
from bnrepro.analysis.site.controls import HALF, HEIGHT, WIDE, choice
from bnrepro.analysis.statistics import t_bounds

NAMES = {"baseline": "without BN", "bn": "with BN"}
ARMS = alt.Scale(domain=list(NAMES.values()), range=[style.VERMILION, style.BLUE])  # as in the figures
REGIMES = {"paper_like": "0.1 for both", "tuned": "each its own best"}
POWERS = alt.Axis(values=[10**i for i in range(6)], format=",.0f")


def figure1(results: Path) -> alt.TopLevelMixin:
    """Accuracy over steps in both regimes, 30 seeds, with the band one chooses."""
    frame = tidy.load(results / "fig1_mnist.parquet").replace({"regime": REGIMES})
    rows = _bands(frame[frame["name"] == "test/accuracy"], ["regime"])
    regime = choice("regime", list(REGIMES.values()), "rate: ")
    band = choice("band", ["95% interval of the mean", "all seeds"], "band: ")
    base = (
        alt.Chart(rows[rows["step"] > 0])
        .transform_filter(alt.datum["regime"] == regime)
        .transform_calculate(
            bottom=alt.expr.if_(band == "all seeds", alt.datum["lowest"], alt.datum["low"]),
            top=alt.expr.if_(band == "all seeds", alt.datum["highest"], alt.datum["high"]),
        )
        .encode(
            x=alt.X("step:Q", scale=alt.Scale(type="log"), title="training steps of 60 images", axis=POWERS)
        )
    )
    shade = base.mark_area(opacity=0.25, clip=True).encode(
        y=alt.Y("bottom:Q", title="test accuracy, % (below 80: not shown)", scale=alt.Scale(domain=[80, 99])),
        y2="top:Q",
        color=_arm(),
    )
    line = base.mark_line(clip=True).encode(
        y="mean:Q", color=_arm(), tooltip=["arm", "step", "mean", "low", "high"]
    )
    return (shade + line).add_params(regime, band).properties(width=WIDE, height=HEIGHT)


def tolerance(results: Path) -> alt.TopLevelMixin:
    """Accuracy over rate and initial spread after the steps of the slider; a click on a cell shows its curves."""
    frame = tidy.load(results / "sensitivity_mnist.parquet")
    keys = ["optim.lr", "model.init_std"]
    rows = _bands(frame[frame["name"] == "val/accuracy"], keys)
    rows = rows[(rows["step"] % 1000 == 0) | rows["step"].isin([1, 100, 250, 500])]
    rows = rows.round(dict.fromkeys(["mean", "low", "high", "lowest", "highest"], 1))
    rows = rows.rename(columns={"optim.lr": "rate", "model.init_std": "std"})
    steps = [int(step) for step in sorted(rows["step"].unique())]
    rows["place"] = rows["step"].map({step: i for i, step in enumerate(steps)})
    place = alt.param(
        name="place",
        value=len(steps) - 1,
        bind=alt.binding_range(min=0, max=len(steps) - 1, step=1, name="time: "),
    )
    cell = alt.selection_point(
        name="cell", fields=["rate", "std"], value=[{"rate": 0.1, "std": 0.1}], toggle=False, empty=False
    )
    shown = alt.Chart(rows)
    boxes = shown.transform_filter(alt.datum["place"] == place).encode(
        x=alt.X("std:O", title="initial std"), y=alt.Y("rate:O", sort="descending", title="learning rate")
    )
    colour = alt.Color("mean:Q", scale=alt.Scale(domain=[10, 98], scheme="cividis"), title="accuracy, %")
    heat = (
        boxes.mark_rect()
        .encode(
            color=colour,
            stroke=alt.condition(cell, alt.value("#e00000"), alt.value(None)),
            strokeWidth=alt.condition(cell, alt.value(3), alt.value(0)),
            tooltip=["arm", "rate", "std", "step", "mean"],
        )
        .add_params(cell)
    )
    number = boxes.mark_text(fontSize=11).encode(
        text=alt.Text("mean:Q", format=".0f"),
        color=alt.condition("datum.mean > 60", alt.value("black"), alt.value("white")),
    )
    maps = alt.hconcat(
        *(
            (heat + number)
            .transform_filter(alt.datum["arm"] == arm)
            .properties(width=HALF, height=200, title=arm)
            for arm in NAMES.values()
        )
    )
    steps_axis = alt.X("step:Q", title="training steps", axis=alt.Axis(tickCount=5))
    chosen = shown.transform_filter(cell).encode(x=steps_axis)
    accuracy = alt.Y("lowest:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    curves = chosen.mark_area(opacity=0.25).encode(
        y=accuracy, y2="highest:Q", color=_arm()
    ) + chosen.mark_line().encode(y="mean:Q", color=_arm())
    after = alt.Title(alt.expr(f"'after ' + {steps}[place] + ' steps; a click on a cell shows its curves'"))
    return (
        alt.vconcat(maps, curves.properties(width=WIDE, height=180), title=after)
        .add_params(place)
        .resolve_scale(color="independent")
    )


def fans(results: Path) -> alt.TopLevelMixin:
    """The input to one sigmoid of the last hidden layer: three percentiles over training, as in Figure 1b and c."""
    frame = tidy.load(results / "fig1_mnist.parquet").replace({"regime": REGIMES})
    frame = frame[frame["seed"].isin(sorted(frame["seed"].unique())[:5])]
    rows = _percentiles(frame, r"^probe/(?P<layer>hidden3)/typical/(?P<percentile>p\d+)$", ["regime", "seed"])
    rows["arm"] = rows.pop("variant").map(NAMES)
    seed = choice("seed", [int(s) for s in sorted(rows["seed"].unique())], "seed: ")
    regime = choice("fan_regime", list(REGIMES.values()), "rate: ")
    base = (
        alt.Chart(rows)
        .transform_filter(alt.datum["seed"] == seed)
        .transform_filter(alt.datum["regime"] == regime)
        .encode(
            x=alt.X("step:Q", scale=alt.Scale(type="log"), title="training steps", axis=POWERS),
            color=_arm(legend=False),
        )
    )
    fan = base.mark_area(opacity=0.3).encode(y=alt.Y("p15:Q", title="input to one sigmoid"), y2="p85:Q")
    return (
        (fan + base.mark_line().encode(y="p50:Q"))
        .properties(width=HALF, height=200)
        .facet(column=alt.Column("arm:N", title=None, sort=list(NAMES.values())))
        .add_params(seed, regime)
    )


def depth(results: Path) -> alt.TopLevelMixin:
    """The input to one nonlinearity of each block of Inception over training: median, and 15th to 85th percentile.

    Measured from its mean place, in units of its mean width: a median that leaves 0 wanders.
    """
    frame = tidy.load(results / "fig2_imagenet.parquet")
    rows = _percentiles(frame, r"^probe/(?P<layer>\w+)/typical/(?P<percentile>p\d+)$", [])
    levels = ["p15", "p50", "p85"]
    mean = rows.groupby(["variant", "layer"])[levels].transform("mean")
    rows[levels] = rows[levels].sub(mean["p50"], axis=0).div(mean["p85"] - mean["p15"], axis=0).round(3)
    rows["variant"] = rows["variant"].map(NETS)
    blocks = sorted(rows["layer"].unique(), key=lambda name: (not name.startswith("conv"), name))
    there = [name for name in NETS.values() if name in set(rows["variant"])]
    net = choice("net", there, "net: ", NETS["bn_x5"])
    base = (
        alt.Chart(rows)
        .transform_filter(alt.datum["variant"] == net)
        .encode(x=alt.X("step:Q", title="training steps", axis=alt.Axis(tickCount=3)))
    )
    moved = alt.Y("p15:Q", title="input", scale=alt.Scale(domain=[-1.5, 1.5]))
    fan = base.mark_area(opacity=0.3, clip=True).encode(y=moved, y2="p85:Q")
    return (
        (fan + base.mark_line(clip=True).encode(y="p50:Q"))
        .properties(width=105, height=90)
        .facet(facet=alt.Facet("layer:N", title="block, from input to output", sort=blocks), columns=4)
        .add_params(net)
    )


def grid(results: Path) -> alt.TopLevelMixin:
    """Error on held-out images after equally many examples, by batch size; three rules for the rate, early and late."""
    runs = design.by_rule(tidy.load(results / "design_grid.parquet"))
    accuracy = tidy.accuracy_name(runs)
    seen = {f"{share * design.examples(runs):,.0f}": design.upto(runs, share) for share in design.TIMES}
    values = {words: last(rows, accuracy, design.CELL).reset_index() for words, rows in seen.items()}
    rows = pd.concat([table.assign(seen=words) for words, table in values.items()])
    keys = ["data.batch_size", "model.activation", "model.dropout", "rule", "seen"]
    rows = _bands(rows, keys, by_step=False)
    rows.columns = [name.split(".")[-1] for name in rows.columns]
    rows["rule"] = rows["rule"].map(design.RULES)
    rows = (
        rows.drop(columns=["lowest", "highest"])
        .rename(columns={"low": "high", "high": "low"})
        .assign(**(100 - rows[["mean", "low", "high"]]).clip(lower=1).round(2))
    )
    activation = choice("activation", ["sigmoid", "relu"], "nonlinearity: ")
    dropout = choice("dropout", [0.0, 0.5], "dropout: ")
    rule = choice("rule", list(design.RULES.values()), "rate: ")
    examples = choice("seen", list(seen), "examples seen: ", list(seen)[-1])
    error = f"error on {'held-out' if accuracy[0] == 'v' else 'test'} images, %"
    base = (
        alt.Chart(rows)
        .transform_filter(alt.datum["activation"] == activation)
        .transform_filter(alt.datum["dropout"] == dropout)
        .transform_filter(alt.datum["rule"] == rule)
        .transform_filter(alt.datum["seen"] == examples)
        .encode(
            x=alt.X("batch_size:Q", scale=alt.Scale(type="log", base=2), title="mini-batch"),
            color=_arm(),
            tooltip=["arm", "batch_size", "mean", "low", "high"],
        )
    )
    percent = alt.Scale(type="log", domain=[1, 100])
    axis = alt.Axis(values=[1, 2, 5, 10, 20, 50, 100])
    line = base.mark_line(point=True).encode(y=alt.Y("mean:Q", title=error, scale=percent, axis=axis))
    band = base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", title=error), y2="high:Q")
    return (band + line).add_params(activation, dropout, rule, examples).properties(width=WIDE, height=HEIGHT)


FROM_RESULTS: dict[str, Callable[[Path], alt.TopLevelMixin]] = {
    "figure1": figure1,
    "tolerance": tolerance,
    "fans": fans,
    "depth": depth,
    "grid": grid,
}


def _bands(frame: pd.DataFrame, keys: list[str], by_step: bool = True) -> pd.DataFrame:
    """Percent: mean over seeds, its 95% interval, lowest and highest, by arm (and step) and keys. NaN is chance."""
    groups = ["variant", *keys, *(["step"] if by_step else [])]
    table = frame.assign(value=100 * frame["value"].fillna(tidy.CHANCE))
    values = table.pivot_table(index=groups, columns="seed", values="value")
    low, high = t_bounds(values.to_numpy())
    found = pd.DataFrame(
        {
            "mean": values.mean(axis=1),
            "low": low,
            "high": high,
            "lowest": values.min(axis=1),
            "highest": values.max(axis=1),
        }
    )
    found["low"], found["high"] = found["low"].fillna(found["mean"]), found["high"].fillna(found["mean"])
    rows = found.round(2).reset_index()
    if by_step and len(rows["step"].unique()) > 120:
        rows = rows[rows["step"].isin(_thinned(rows["step"].unique(), 120))]
    rows["arm"] = rows.pop("variant").map(NAMES)
    return rows


def _percentiles(frame: pd.DataFrame, names: str, keys: list[str]) -> pd.DataFrame:
    """Columns variant, *keys, layer, step, p15, p50, p85: means over seeds unless seed is a key; 60 steps at most."""
    found = frame["name"].str.extract(names)
    some = frame.assign(layer=found["layer"], percentile=found["percentile"])
    some = some[found["layer"].notna() & (some["step"] > 0)]
    index = ["variant", *keys, "layer", "step"]
    rows = some.pivot_table(index=index, columns="percentile", values="value").reset_index()
    return rows[rows["step"].isin(_thinned(rows["step"].unique(), 60))].round(3)


def _thinned(steps: np.ndarray, most: int) -> set[int]:
    """At most so many of these steps, evenly spread on a logarithmic axis, the last among them."""
    steps = np.sort(steps[steps > 0])
    wanted = np.geomspace(steps[0], steps[-1], most)
    return {int(steps[np.abs(steps - step).argmin()]) for step in wanted}


def _arm(legend: bool = True) -> alt.Color:
    key = alt.Legend(orient="top", symbolOpacity=1) if legend else None
    return alt.Color("arm:N", scale=ARMS, title=None, legend=key)


def caption(name: str) -> str:
    """The sentence below a widget and for those who do not see it."""
    return ((FROM_RESULTS | FOR_CLASS)[name].__doc__ or "").strip().replace("\n\n    ", " ")
