"""The grid of the design: accuracy against batch size, BN's effect on it, and curves against examples seen."""

from collections.abc import Iterator
from itertools import product

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects import grid
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.figures.style import (
    ACTIVATIONS,
    ARMS,
    STYLE,
    WIDTH,
    band,
    caption,
    intervals,
    setting,
    split,
)
from bnrepro.analysis.frame import CHANCE

LOOKS = {  # the arm has the colour and the line, the rule for the rate the marker
    "constant": {"marker": "o", "ms": 4.5},
    "linear": {"marker": "s", "ms": 5, "mfc": "w"},
    "own": {"marker": "^", "ms": 5.5},
}
LINES = [(arm, rule) for arm in ARMS for rule in LOOKS]
NAMES = {rule: f"{words} rate" for rule, words in grid.RULES.items()}
COLUMNS = {  # of the effects: title, rules for the rate, and the axis in points
    "effect of BN, both arms at one rate": (("constant", "linear"), (-5, 15)),
    "each arm at its own best rate": (("own",), (-2, 3)),
}


def accuracy(runs: pd.DataFrame) -> Figure:
    """Final test accuracy against batch size, a panel each for nonlinearity x dropout."""
    values = last(runs, "test/accuracy", grid.CELL)
    with mpl.rc_context(STYLE):
        fig, panels = _panels(values)
        for (activation, dropout), ax in panels.items():
            for arm, rule in LINES:
                seeds = _pick(values, activation, dropout, variant=arm, rule=rule)
                band(ax, 1 - seeds.unstack("seed"), **_look(arm, rule))
            batch_axis(ax, values.index.get_level_values("data.batch_size").unique())
        accuracy_axis(next(iter(panels.values())))
        _dress(fig, panels, "test accuracy, % (log. error)")
        caption(
            fig,
            f"{_setting(runs)}, at the last step. Mean of {runs['seed'].nunique()} seeds;"
            " band: lowest to highest seed. A run that diverged counts as 10%.",
            WHICH,
        )
        return fig


def effects(runs: pd.DataFrame) -> Figure:
    """BN's effect on final test accuracy against batch size, at one rate for both arms (left) and at each one's own.

    A row per nonlinearity and dropout. Each column has one axis; what lies beyond it is written as a number.
    """
    found = grid.difference(last(runs, "test/accuracy", grid.CELL), "BN")
    rows = list(product(ACTIVATIONS, sorted(found.index.get_level_values("model.dropout").unique())))
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 1.4 * len(rows) + 1.7), layout="constrained")
        axes = fig.subplots(len(rows), 2, sharex=True, sharey="col")
        for (title, (rules, (low, high))), column in zip(COLUMNS.items(), axes.T, strict=True):
            for (activation, dropout), ax in zip(rows, column, strict=True):
                ax.axhline(0, color="k", lw=0.8)
                for rule in rules:
                    seeds = _pick(found, activation, dropout, rule=rule).unstack("seed")
                    bounds = [statistics.estimate(row) for row in seeds.to_numpy()]
                    table = 100 * pd.DataFrame(bounds, seeds.index)
                    colour = "#444444" if rule != "linear" else "#999999"
                    intervals(ax, table, **LOOKS[rule], color=colour, label=NAMES[rule])
                    for batch, value in table["value"][
                        (table["value"] > high) | (table["value"] < low)
                    ].items():
                        edge = high if value > high else low
                        words, inside = (
                            (f"↑\n{value:+.0f}", "top") if value > high else (f"{value:+.0f}\n↓", "bottom")
                        )
                        box = {"fc": "w", "ec": "none", "pad": 0.5, "alpha": 0.8}
                        look = {"ha": "center", "va": inside, "fontsize": 8.5, "linespacing": 0.9}
                        ax.annotate(words, (batch, edge), bbox=box, **look)
                batch_axis(ax, found.index.get_level_values("data.batch_size").unique())
                ax.set_ylim(low, high)
                ax.yaxis.set_major_formatter(lambda y, _: f"{y:+g}" if y else "0")
            column[0].set_title(title, loc="left")
            if len(rules) > 1:
                column[0].legend(loc="upper left")
            column[-1].set_xlabel("batch size")
        for (activation, dropout), ax in zip(rows, axes[:, 0], strict=True):
            ax.set_ylabel(f"{ACTIVATIONS[activation]},\ndropout {dropout:g}")
        fig.align_ylabels()
        caption(
            fig,
            f"{_setting(runs)}. Test accuracy with BN - without, in points: mean of {runs['seed'].nunique()} paired"
            " differences at the last step; band: 95% interval. An arrow with a number: beyond the axis.",
            WHICH,
        )
        return fig


def curves(runs: pd.DataFrame, batches: tuple[int, ...] = (8, 60, 512), dropout: float = 0.0) -> Figure:
    """Accuracy against the number of training examples seen, columns: batch size, rows: nonlinearity."""
    name = tidy.accuracy_name(runs)
    rows = runs[(runs["name"] == name) & (runs["model.dropout"] == dropout) & (runs["step"] > 0)]
    rows = rows.assign(value=1 - rows["value"].fillna(CHANCE))
    if absent := set(batches) - set(rows["data.batch_size"]):
        raise tidy.MissingData(f"no runs of batch size {', '.join(map(str, sorted(absent)))}")
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 5.8), layout="constrained")
        axes = fig.subplots(2, len(batches), sharex=True, sharey=True, squeeze=False)
        for (row, activation), (column, batch) in _product(ACTIVATIONS, batches):
            ax, here = axes[row, column], rows[rows["data.batch_size"] == batch]
            for arm, rule in LINES:
                run = (here["variant"] == arm) & (here["rule"] == rule)
                seeds = here[run & (here["model.activation"] == activation)]
                seeds = seeds.pivot(index="step", columns="seed", values="value")
                seen = seeds.set_axis(seeds.index * batch)
                every, nth = max(1, len(seen) // len(LOOKS)), list(LOOKS).index(rule)
                first = min(
                    every * nth // len(LOOKS) + 1, len(seen) - 1
                )  # each rule's markers at other places
                band(ax, seen, **_look(arm, rule), markevery=(first, every))
            ax.set_title(f"{ACTIVATIONS[activation]}, batch {batch}", loc="left")
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1000:g}K")
        accuracy_axis(axes[0, 0])
        fig.supylabel(f"{split(runs)} accuracy, % (log. error)", fontsize=9)
        for ax in axes[1]:
            ax.set_xlabel("training examples seen")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        each = f"Mean of {runs['seed'].nunique()} seeds; band: lowest to highest seed."
        caption(fig, f"{_setting(runs)}, dropout {dropout:g}. {each}", WHICH)
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    runs = grid.by_rule(frame)
    yield "design_grid", accuracy(runs)
    yield "design_grid", grid.main_effects(runs)
    yield "design_grid_effects", effects(runs)
    yield "design_grid_curves", curves(runs)
    yield "design_grid_time", grid.over_time(runs)
    for effect, stem in (
        ("BN", "bn"),
        ("linear rate", "rate"),
        ("best rate", "best_rate"),
        ("dropout", "dropout"),
    ):
        yield f"design_grid_{stem}", grid.by_cell(runs, effect)


WHICH = (
    f"Constant: a rate of {grid.RATE:g} for every batch size. Linear: {grid.RATE:g} * batch / {grid.MEETS}. Its own"
    " best: the best on held-out images of all rates tried at that batch size. All runs see equally many examples."
)


def accuracy_axis(ax: Axes) -> None:
    """For errors, drawn already: logarithmic, upside down, labelled with the accuracy in percent."""
    ax.set_yscale("log")
    ticks = [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 0.9]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * (1 - y):.0f}")
    low, high = sorted(ax.get_ylim())
    ax.set_ylim(min(max(high, 0.1), 1.0), low)


def batch_axis(ax: Axes, batches: pd.Index) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(batches), [str(batch) for batch in batches])
    ax.xaxis.set_minor_locator(NullLocator())


def _panels(values: pd.Series) -> tuple[Figure, dict[tuple[str, float], Axes]]:
    dropouts = sorted(values.index.get_level_values("model.dropout").unique())
    fig = Figure(figsize=(WIDTH, 5.8), layout="constrained")
    axes = fig.subplots(2, len(dropouts), sharex=True, sharey=True, squeeze=False)
    places = _product(ACTIVATIONS, dropouts)
    return fig, {(activation, rate): axes[row, column] for (row, activation), (column, rate) in places}


def _product(rows: object, columns: object) -> list[tuple[tuple[int, str], tuple[int, float]]]:
    return [(row, column) for row in enumerate(rows) for column in enumerate(columns)]


def _pick(values: pd.Series, activation: str, dropout: float, **levels: str) -> pd.Series:
    """The cells of one panel and line, indexed by (data.batch_size, seed)."""
    wanted = {"model.activation": activation, "model.dropout": dropout, **levels}
    return values.xs(tuple(wanted.values()), level=list(wanted))


def _dress(fig: Figure, panels: dict[tuple[str, float], Axes], ylabel: str) -> None:
    for (activation, dropout), ax in panels.items():
        ax.set_title(f"{ACTIVATIONS[activation]}, dropout {dropout:g}", loc="left")
        if activation == list(ACTIVATIONS)[-1]:
            ax.set_xlabel("batch size")
    fig.supylabel(ylabel, fontsize=9)
    ax = next(iter(panels.values()))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def _look(arm: str, rule: str) -> dict:
    return {**ARMS[arm], **LOOKS[rule], "label": f"{ARMS[arm]['label']}, {NAMES[rule]}"}


def _setting(runs: pd.DataFrame) -> str:
    return f"{setting(runs, rates=False)}; {grid.examples(runs):,.0f} examples seen"
