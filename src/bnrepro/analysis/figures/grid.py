"""The grid of the design: accuracy against batch size, its effects, and curves against examples seen."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects import grid
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.figures.style import ACTIVATIONS, ARMS, STYLE, WIDTH, band, caption, intervals, setting
from bnrepro.analysis.frame import CHANCE

RULES = {  # the arm has the colour and the line, the rule the marker
    "constant": {"marker": "o", "ms": 5},
    "linear": {"marker": "s", "ms": 5.5, "mfc": "w"},
}
CONDITIONS = {  # of each effect: the other factor, and the look of its levels
    "BN": {
        ("optim.batch_rule", rule): {**mark, "color": "#444444", "label": f"at {rule} rate"}
        for rule, mark in RULES.items()
    },
    "linear rate": {("variant", arm): {**look, "marker": "o", "ms": 5} for arm, look in ARMS.items()},
}
TITLES = {"BN": "effect of BN", "linear rate": "effect of the linear rate"}


def accuracy(frame: pd.DataFrame) -> Figure:
    """Final test accuracy against batch size, a panel each for nonlinearity x dropout."""
    values = last(frame, "test/accuracy", grid.CELL)
    with mpl.rc_context(STYLE):
        fig, panels = _panels(values)
        for (activation, dropout), ax in panels.items():
            for arm, look in ARMS.items():
                for rule, mark in RULES.items():
                    seeds = _pick(values, activation, dropout, variant=arm, **{"optim.batch_rule": rule})
                    label = f"{look['label']}, {rule} rate"
                    band(ax, 1 - seeds.unstack("seed"), **{**look, **mark, "label": label})
            batch_axis(ax, values.index.get_level_values("data.batch_size").unique())
        accuracy_axis(next(iter(panels.values())))
        _dress(fig, panels, "test accuracy, % (log. error)")
        caption(
            fig,
            f"{_setting(frame)}, at the last step. Mean of {frame['seed'].nunique()} seeds;"
            " band: lowest to highest seed. A run that diverged counts as 10%.",
            RATES,
        )
        return fig


def effects(frame: pd.DataFrame) -> Figure:
    """BN's effect (left) beside the rate rule's, against batch size: paired differences in points of accuracy.

    A row per nonlinearity and dropout, with one axis for both effects.
    """
    values = last(frame, "test/accuracy", grid.CELL)
    dropouts = sorted(values.index.get_level_values("model.dropout").unique())
    rows = [(activation, dropout) for activation in ACTIVATIONS for dropout in dropouts]
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 1.55 * len(rows) + 1.7), layout="constrained")
        axes = fig.subplots(len(rows), 2, sharex=True, sharey="row")
        for (effect, conditions), column in zip(CONDITIONS.items(), axes.T, strict=True):
            found = grid.difference(values, effect)
            for (activation, dropout), ax in zip(rows, column, strict=True):
                ax.axhline(0, color="k", lw=0.8)
                for (factor, level), look in conditions.items():
                    seeds = _pick(found, activation, dropout, **{factor: level}).unstack("seed")
                    bounds = [statistics.estimate(row) for row in seeds.to_numpy()]
                    intervals(ax, 100 * pd.DataFrame(bounds, seeds.index), **look)
                batch_axis(ax, values.index.get_level_values("data.batch_size").unique())
            column[0].set_title(TITLES[effect], loc="left")
            column[0].legend(loc="best")
            column[-1].set_xlabel("batch size")
        for (activation, dropout), ax in zip(rows, axes[:, 0], strict=True):
            ax.set_ylabel(f"{ACTIVATIONS[activation]},\ndropout {dropout:g}")
            ax.yaxis.set_major_formatter(lambda y, _: f"{y:+g}" if y else "0")
        fig.align_ylabels()
        caption(
            fig,
            f"{_setting(frame)}. Change of test accuracy in points: mean of {frame['seed'].nunique()} paired"
            " differences at the last step; band: 95% interval.",
            "BN: with - without, at one rate. Linear rate: rate proportional to the batch - one rate for all,"
            f" in one arm; 0 at batch {grid.MEETS}, where both are the same run. Each row has its own vertical axis.",
        )
        return fig


def curves(frame: pd.DataFrame, batches: tuple[int, ...] = (8, 60, 512), dropout: float = 0.0) -> Figure:
    """Test accuracy against the number of training examples seen, columns: batch size, rows: nonlinearity."""
    rows = frame[(frame["name"] == "test/accuracy") & (frame["model.dropout"] == dropout)]
    rows = rows.assign(value=1 - rows["value"].fillna(CHANCE))
    if absent := set(batches) - set(rows["data.batch_size"]):
        raise tidy.MissingData(f"no runs of batch size {', '.join(map(str, sorted(absent)))}")
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 5.4), layout="constrained")
        axes = fig.subplots(2, len(batches), sharex=True, sharey=True, squeeze=False)
        for (row, activation), (column, batch) in _product(ACTIVATIONS, batches):
            ax, here = axes[row, column], rows[rows["data.batch_size"] == batch]
            for (arm, look), (rule, mark) in [(a, r) for a in ARMS.items() for r in RULES.items()]:
                run = (here["variant"] == arm) & (here["optim.batch_rule"] == rule)
                seeds = here[run & (here["model.activation"] == activation)]
                seeds = seeds.pivot(index="step", columns="seed", values="value")
                label = f"{look['label']}, {rule} rate"
                band(ax, seeds.set_axis(seeds.index * batch), **{**look, **mark, "label": label})
            ax.set_title(f"{ACTIVATIONS[activation]}, batch {batch}", loc="left")
            ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}K" if x else "0")
        accuracy_axis(axes[0, 0])
        fig.supylabel("test accuracy, % (log. error)", fontsize=9)
        for ax in axes[1]:
            ax.set_xlabel("training examples seen")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        each = f"Mean of {frame['seed'].nunique()} seeds; band: lowest to highest seed."
        caption(fig, f"{_setting(frame)}, dropout {dropout:g}. {each}", RATES)
        return fig


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "design_grid", accuracy(frame)
    yield "design_grid", grid.main_effects(frame)
    yield "design_grid_effects", effects(frame)
    yield "design_grid_curves", curves(frame)
    for effect, stem in (("BN", "bn"), ("linear rate", "rate"), ("dropout", "dropout")):
        yield f"design_grid_{stem}", grid.by_cell(frame, effect)


RATES = (
    "Constant: one rate for every batch size. Linear: rate proportional to the batch size,"
    f" the same at {grid.MEETS}. All runs see the same number of examples."
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


def _setting(frame: pd.DataFrame) -> str:
    seen = (frame["data.batch_size"] * frame["train.steps"]).median()
    where = setting(frame, rates=frame["optim.lr"].nunique() == 1)
    return f"{where}; {np.round(seen, -3):,.0f} examples seen"
