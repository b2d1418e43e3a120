"""Interactive figures for class, as Vega-Lite charts that need no results: what standardizing does, and its noise."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt
import numpy as np
import pandas as pd

from bnrepro.analysis.figures import style
from bnrepro.analysis.site.controls import HEIGHT, WIDE, choice, slider


def sigmoid() -> alt.TopLevelMixin:
    """One unit's inputs under the sigmoid: their own mean and spread, or gamma and beta after BN."""
    z = np.round(_normal_quantiles(400), 3)
    sliders = [
        slider("mean", -6, 6, 3, "mean of the inputs: "),
        slider("spread", 0.5, 5, 3, "their spread: "),
        slider("gamma", 0.5, 5, 1, "gamma: "),
        slider("beta", -5, 5, 0, "beta: "),
    ]
    normalized = choice("bn", ["with BN", "without BN"], "layer: ")
    x = "(bn == 'with BN' ? gamma * datum.z + beta : mean + spread * datum.z)"
    inputs = (
        alt.Chart(pd.DataFrame({"z": z}))  # binned by hand: Vega-Lite would bin before it calculates
        .transform_calculate(left=f"floor(({x} + 10) / 0.4) * 0.4 - 10")
        .transform_filter("datum.left > -10.1 && datum.left < 9.9")
        .transform_aggregate(count="count()", groupby=["left"])
        .transform_calculate(right="datum.left + 0.4")
        .mark_bar(opacity=0.6)
        .encode(
            x=alt.X("left:Q", bin="binned", title="input to the sigmoid", scale=alt.Scale(domain=[-10, 10])),
            x2="right:Q",
            y=alt.Y("count:Q", title="of 400 examples", scale=alt.Scale(domain=[0, 130])),
        )
    )
    at = np.round(np.linspace(-10, 10, 101), 2)
    curve = pd.DataFrame({"x": at, "s": np.round(1 / (1 + np.exp(-at)), 4)})
    line = alt.Chart(curve).mark_line(color=style.VERMILION).encode(x="x:Q", y=alt.Y("s:Q", title="sigmoid"))
    return (
        alt.layer(inputs, line)
        .resolve_scale(y="independent")
        .add_params(*sliders, normalized)
        .properties(width=WIDE, height=HEIGHT)
    )


def standardize() -> alt.TopLevelMixin:
    """Two features: as they are, minus their means, divided by their standard deviations. Both axes have one scale."""
    rng = np.random.default_rng(0)
    shared, one, two = rng.random((3, 300))
    x = np.column_stack([60 * (0.6 * shared + 0.4 * one), -200 * (1 - 0.6 * shared - 0.4 * two)])
    mean, std = x.mean(axis=0), x.std(axis=0)
    rows = pd.DataFrame(np.round(x, 2), columns=["a", "b"])
    stage = choice("stage", ["data", "minus mean", "divided by std"], "shown: ")
    spread = "(stage == 'minus mean' ? 1 : {})"
    steps = {
        name: f"stage == 'data' ? datum.{name} : (datum.{name} - {mean[i]:.4f}) / {spread.format(round(std[i], 4))}"
        for i, name in enumerate("ab")
    }
    ends = {
        "domainMin": ("-210", "-140", "-3.5"),
        "domainMax": ("70", "140", "3.5"),
    }  # of both axes: shapes are true
    same = alt.Scale(
        nice=False,
        **{
            end: alt.expr(f"stage == 'data' ? {one} : stage == 'minus mean' ? {two} : {three}")
            for end, (one, two, three) in ends.items()
        },
    )
    return (
        alt.Chart(rows)
        .transform_calculate(x=steps["a"], y=steps["b"])
        .mark_circle(opacity=0.5)
        .encode(x=alt.X("x:Q", title="feature 1", scale=same), y=alt.Y("y:Q", title="feature 2", scale=same))
        .add_params(stage)
        .properties(width=320, height=320)
    )


def noise() -> alt.TopLevelMixin:
    """What becomes of one activation of 1: by BN in 400 mini-batches it may be part of, by dropout in 400 masks."""
    rng, value, draws = np.random.default_rng(1), 1.0, 400
    edges, rows, rates = np.round(np.arange(-1, 3.01, 0.1) - 0.05, 2), [], (0.1, 0.3, 0.5)
    for m in (4, 16, 64, 128, 512):
        batch = rng.standard_normal((draws, m))
        batch[:, 0] = value
        y = (value - batch.mean(axis=1)) / batch.std(axis=1)
        rows += [
            ("BN", m, -1.0, at, n) for at, n in zip(edges, np.histogram(y, edges)[0].tolist(), strict=False)
        ]
    for p in rates:
        y = value * (rng.random(draws) >= p) / (1 - p)
        rows += [
            ("dropout", -1, p, at, n)
            for at, n in zip(edges, np.histogram(y, edges)[0].tolist(), strict=False)
        ]
    table = pd.DataFrame(rows, columns=["kind", "m", "p", "y", "count"]).query("count > 0")
    table["end"] = (table["y"] + 0.1).round(2)
    size = choice("size", [4, 16, 64, 128, 512], "mini-batch: ", 64)
    rate = choice("rate", list(rates), "dropout rate: ", 0.5)
    return (
        alt.Chart(table)
        .transform_filter((alt.datum["m"] == size) | (alt.datum["p"] == rate))
        .mark_bar(opacity=0.8)
        .encode(
            x=alt.X(
                "y:Q", bin="binned", title="what becomes of the activation", scale=alt.Scale(domain=[-1, 3])
            ),
            x2="end:Q",
            y=alt.Y("count:Q", title="of 400", scale=alt.Scale(domain=[0, 400])),
            row=alt.Row("kind:N", title=None),
            color=alt.Color("kind:N", legend=None),
        )
        .add_params(size, rate)
        .properties(width=WIDE, height=110)
    )


def _normal_quantiles(n: int) -> np.ndarray:
    from scipy.stats import norm

    return norm.ppf((np.arange(n) + 0.5) / n)


FOR_CLASS: dict[str, Callable[[], alt.TopLevelMixin]] = {
    "sigmoid": sigmoid,
    "standardize": standardize,
    "noise": noise,
}
