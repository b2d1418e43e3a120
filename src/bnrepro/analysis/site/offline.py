"""One HTML page of any runs: curves with bands, percentiles and histograms over time, a table. Opens from the disk."""

from __future__ import annotations

import html
from collections.abc import Sequence

import altair as alt
import pandas as pd

from bnrepro.analysis import summary

MOST_POINTS = 150  # of a curve
MOST_COLUMNS = 40  # of a histogram over time
ALL_COLUMNS = 1200  # of all histograms of a page: some 30,000 rectangles
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px }} td, th {{ padding: .25rem .7rem; border-bottom: 1px solid #ddd;
text-align: left }} .wide {{ overflow-x: auto }} .vega-bind {{ margin: .3rem 1rem .3rem 0; font-size: 13px }}
</style><script>{vega}</script></head><body>
"""


def page(lines: Sequence[summary.Line], title: str = "bnrepro") -> str:
    """The page of these runs. Raises ValueError where nothing has been measured."""
    import vl_convert

    rows = measured(lines)
    if rows.empty:
        raise ValueError("nothing has been measured in these runs yet")
    charts = [curves(rows)]
    if rows["name"].str.startswith("probe/").any():
        charts.append(fans(rows))
    if len(shares := distributions(lines)):
        charts.append(over_time(shares))
    vega = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue], its stub asks for what it does not need
    text = HEAD.format(title=html.escape(title), vega=vega)
    text += f"<h1>{html.escape(title)}</h1>\n{table(lines)}\n"
    for i, chart in enumerate(charts):
        with alt.data_transformers.enable("default", max_rows=None):
            spec = chart.to_json(indent=None).replace("</", "<\\/")  # a name cannot end the script
        text += f'<div class="wide" id="chart{i}"></div>\n'
        text += f"<script>vegaEmbed('#chart{i}', {spec}, {{renderer: 'svg', actions: false}})</script>\n"
    return text + "</body></html>\n"


def measured(lines: Sequence[summary.Line]) -> pd.DataFrame:
    """Columns run, seed, step, name, value, of at most 150 steps a run: accuracies, losses, percentiles of one unit."""
    told = labels(lines)
    rows = [
        (label, *row)
        for label, line in zip(told, lines, strict=True)
        if line.curves
        for row in line.folder.rows()
        if row.name.split("/")[0] in ("test", "val", "train") or "/typical/" in row.name
    ]
    frame = pd.DataFrame(rows, columns=["run", "seed", "step", "name", "value"])
    kept = [
        part[part["step"].isin(_spread(sorted(part["step"].unique()), MOST_POINTS))]
        for _, part in frame.groupby("run", sort=False)
    ]
    return pd.concat(kept) if kept else frame


def distributions(lines: Sequence[summary.Line]) -> pd.DataFrame:
    """Of each run's first seed with histograms: columns run, layer, step, to (the next step), low, high, share.

    At most 40 steps of a run, fewer where there are many; two bins in one; bins that hold next to nothing are left out.
    """
    found, rows = [], []
    for label, line in zip(labels(lines), lines, strict=True):
        kept = line.folder.distributions() if line.curves else []
        rows.append((label, [row for row in kept if row[0] == kept[0][0] and sum(row[3][0])]))
    panels = sum(len({name for *_, name, _ in first}) for _, first in rows)
    for label, first in rows:
        steps = _spread(
            sorted({step for _, step, *_ in first}), max(4, min(MOST_COLUMNS, ALL_COLUMNS // max(1, panels)))
        )
        last = 2 * steps[-1] - steps[-2] if len(steps) > 1 else 1 + max(steps, default=0)
        until = dict(zip(steps, [*steps[1:], last][: len(steps)], strict=True))
        for _, step, name, (counts, edges) in first:
            if step in until:
                layer, total = name.removeprefix("probe/").removesuffix("/histogram"), sum(counts)
                bins = zip(edges[::2], edges[2::2], counts[::2], counts[1::2], strict=False)
                shares = [(low, high, round((a + b) / total, 4)) for low, high, a, b in bins]
                found += [(label, layer, step, until[step], *bin) for bin in shares if bin[2] > 0.0005]
    return pd.DataFrame(found, columns=["run", "layer", "step", "to", "low", "high", "share"])


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most that many of them, evenly spread."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def labels(lines: Sequence[summary.Line]) -> list[str]:
    """Each run by what tells it from the others."""
    records = summary.records(lines)
    varied = [key for key in records[0] if "." in key or key == "variant"] if records else []
    words = [
        ", ".join(str(row[k]) if k == "variant" else f"{k.split('.')[-1]} {row[k]}" for k in varied)
        for row in records
    ]
    twice = {word for word in words if words.count(word) > 1}
    return [
        f"{w} ({line.folder.path.name[-8:]})" if w in twice else w
        for w, line in zip(words, lines, strict=True)
    ]


FAN = ["input to one typical unit:", "median, 15th to 85th percentile"]
SHOWN = "mean of the seeds; band: lowest to highest"


def curves(rows: pd.DataFrame) -> alt.TopLevelMixin:
    """Every run over steps, mean and range over seeds, of the metric one chooses; a click on the legend picks runs."""
    some = rows[~rows["name"].str.startswith("probe/")]
    bands = some.groupby(["run", "name", "step"])["value"].agg(["mean", "min", "max"]).reset_index()
    names = sorted(bands["name"].unique(), key=lambda name: (not name.endswith("/accuracy"), name))
    metric = alt.param(name="metric", value=names[0], bind=alt.binding_select(options=names, name="metric: "))
    scale = alt.param(
        name="scale", value="linear", bind=alt.binding_radio(options=["linear", "log"], name="steps: ")
    )
    picked = alt.selection_point(fields=["run"], bind="legend")
    base = (
        alt.Chart(bands)
        .transform_filter(alt.datum["name"] == metric)
        .transform_calculate(x="scale == 'log' ? log(datum.step + 1) / LN10 : datum.step")
        .encode(
            x=alt.X("x:Q", title="training steps", axis=alt.Axis(labelExpr=LABEL)),
            color=alt.Color(
                "run:N",
                title=None,
                legend=alt.Legend(orient="bottom", columns=2, labelLimit=400, symbolOpacity=1),
            ),
            opacity=alt.condition(picked, alt.value(1), alt.value(0.08)),
        )
    )
    value = alt.Y("mean:Q", title=SHOWN, scale=alt.Scale(zero=False))
    band = base.mark_area().encode(
        y=alt.Y("min:Q", title=SHOWN, scale=alt.Scale(zero=False)),
        y2="max:Q",
        opacity=alt.condition(picked, alt.value(0.2), alt.value(0.02)),
    )
    line = base.mark_line().encode(y=value, tooltip=["run", "step", "mean", "min", "max"])
    return (band + line).add_params(metric, scale, picked).properties(width=800, height=360)


LABEL = "scale == 'log' ? format(pow(10, datum.value) - 1, ',.0f') : format(datum.value, ',.0f')"


def fans(rows: pd.DataFrame) -> alt.TopLevelMixin:
    """15th, 50th and 85th percentile of the inputs to one unit over training, a run a panel, of a layer and seed."""
    parts = rows["name"].str.extract(r"^probe/(?P<layer>\w+)/typical/(?P<level>p\d+)$")
    some = rows.assign(layer=parts["layer"], level=parts["level"])[parts["layer"].notna()]
    wide = some.pivot_table(
        index=["run", "layer", "seed", "step"], columns="level", values="value"
    ).reset_index()
    layers, seeds = sorted(wide["layer"].unique()), sorted(int(s) for s in wide["seed"].unique())
    layer = alt.param(name="layer", value=layers[-1], bind=alt.binding_select(options=layers, name="layer: "))
    seed = alt.param(name="seed", value=seeds[0], bind=alt.binding_select(options=seeds, name="seed: "))
    base = (
        alt.Chart(wide.round(4))
        .transform_filter(alt.datum["layer"] == layer)
        .transform_filter(alt.datum["seed"] == seed)
        .encode(x=alt.X("step:Q", title="training steps"))
    )
    fan = base.mark_area(opacity=0.3).encode(y=alt.Y("p15:Q", title=FAN), y2="p85:Q")
    return (
        (fan + base.mark_line().encode(y="p50:Q"))
        .properties(width=370, height=180)
        .facet(facet=alt.Facet("run:N", title=None), columns=2)
        .add_params(layer, seed)
    )


def over_time(shares: pd.DataFrame) -> alt.TopLevelMixin:
    """The inputs to one layer's nonlinearities over training, all units: the darker, the more; a run a panel."""
    layers = sorted(shares["layer"].unique())
    layer = alt.param(name="of", value=layers[-1], bind=alt.binding_select(options=layers, name="layer: "))
    return (
        alt.Chart(shares)
        .transform_filter(alt.datum["layer"] == layer)
        .mark_rect()
        .encode(
            x=alt.X("step:Q", title="training steps", scale=alt.Scale(nice=False)),
            x2="to:Q",
            y=alt.Y("low:Q", title="input, of all units"),
            y2="high:Q",
            color=alt.Color("share:Q", title="share", scale=alt.Scale(scheme="blues", type="sqrt")),
            tooltip=["run", "step", "low", "high", "share"],
        )
        .properties(width=370, height=180)
        .facet(facet=alt.Facet("run:N", title=None), columns=2)
        .add_params(layer)
    )


def table(lines: Sequence[summary.Line]) -> str:
    headings, cells = summary.columns(lines)
    text = "".join(f"<th>{html.escape(word)}</th>" for word in headings)
    body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in cells)
    return (
        f'<div class="wide"><table><tr>{text}</tr>'
        + "".join(f"<tr>{row}</tr>" for row in body)
        + "</table></div>"
    )
