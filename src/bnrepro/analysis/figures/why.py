"""Why it works: covariate shift, landscape and Jacobians over training, gradients and units by layer."""

from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import why
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.style import ACTIVATIONS, ARMS, GREEN

NOISY = {"bn_noisy": {"label": "with BN and injected noise", "color": GREEN, "linestyle": (0, (1, 1))}}
LOOKS = {**ARMS, **NOISY}
Draw = Callable[[Axes, pd.DataFrame, dict], None]  # axes, one arm's wide table, its look


def shift(frame: pd.DataFrame, activation: str) -> Figure:
    """Internal covariate shift over training: ‖G - G'‖, the same relative to ‖G‖, and the cosine."""
    panels = {
        "‖G - G'‖": _over_steps(why.SHIFT["covariate shift ‖G - G'‖"], "log"),
        "‖G - G'‖ / ‖G‖": _over_steps(why.SHIFT["covariate shift ‖G - G'‖ / ‖G‖"], "log"),
        "cosine of G and G'": _over_steps(why.SHIFT["cosine of G and G'"], "linear"),
    }
    return _by_depth(
        frame,
        activation,
        panels,
        "internal covariate shift",
        "G, G': gradient of a layer's weights before and after all layers below it take their step, on one"
        " batch; mean over layers from the second on. No shift: 0, 0, 1.",
    )


def landscape(frame: pd.DataFrame, activation: str) -> Figure:
    """Range of the loss, change of the gradient and effective smoothness along the gradient, over training."""
    panels = {
        "range of the loss": _over_steps(why.LANDSCAPE["range of the loss along the gradient"], "log"),
        "gradient change\n/ its norm": _over_steps(why.LANDSCAPE["change of the gradient / its norm"], "log"),
        "effective\nsmoothness": _over_steps(why.LANDSCAPE["effective smoothness"], "log"),
    }
    return _by_depth(
        frame,
        activation,
        panels,
        "landscape along the gradient",
        "All parameters move along the gradient of one batch, by 1/4, 1/2, 1, 2 and 4 times the rate. Range: highest"
        " loss of the five places - lowest. Change: the largest one of the gradient, over its norm at the start;"
        " effective smoothness: over the distance moved.",
    )


def jacobians(frame: pd.DataFrame, activation: str) -> Figure:
    """Singular values of the layer Jacobians over training: median, and distance from 1 in decades."""
    name = ACTIVATIONS.get(activation, activation)
    median = why.Quantity("number", why.mean_over_layers("jacobian_linear", "median"))
    panels = {f"median,\nbefore the {name}": _over_steps(median, "log")}
    for place in ("before", "after"):
        distance = why.LAYERS[f"decades from 1, {place} the nonlinearity"]
        panels[f"decades from 1,\n{place} the {name}"] = _over_steps(distance, "linear")
    return _by_depth(
        frame,
        activation,
        panels,
        "singular values of the layer Jacobians",
        f"Jacobian: how a layer's output depends on its input, before the {name} (weights and BN) and after it; for"
        " 8 examples, mean over hidden layers from the second on. Decades from 1: mean of |log10 s| over the singular"
        " values s in active directions: without those that are zero because a unit is inactive.",
    )


def by_layer(frame: pd.DataFrame, activation: str) -> Figure:
    """Against the layer: gradient norm at the first and the last measured step, saturated and dead units.

    Shares of units that are next to nothing in every net are said and not drawn.
    """
    panels = {
        "gradient norm,\nfirst step": _against_layer("gradient", "norm", "first"),
        "gradient norm,\nlast step": _against_layer("gradient", "norm", "last"),
    }
    title = "gradients and units by layer"
    words = "Saturated: slope below 5% of the steepest, share of (example, unit); dead: units saturated for the whole"
    words += " batch; both averaged over training."
    here = frame[frame["model.activation"] == activation]
    most = here.loc[here["name"].str.fullmatch(r"units/\w+/saturated"), "value"].max()
    if most < 0.01:
        title = "gradients by layer"
        share = f"{100 * most:.1g}%"
        words = f"Not drawn: saturated units, with a slope below 5% of the steepest, at most {share} in any layer."
    else:
        panels["saturated share"] = _against_layer("units", "saturated", "over training")
        panels["dead share"] = _against_layer("units", "dead", "over training")
    words = f"Gradient of a layer's weights; the last layer is the classifier. {words}"
    return _by_depth(frame, activation, panels, title, words)


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    found = why.wide(frame).index.unique("model.activation")
    for activation in (name for name in ACTIVATIONS if name in found):
        for draw in (shift, landscape, jacobians, by_layer):
            yield f"why_{draw.__name__}_{activation}", draw(frame, activation)
    yield "why_accuracy", why.accuracy_table(frame)
    yield "why_shift", why.effects_table(frame, why.SHIFT)
    yield "why_landscape", why.effects_table(frame, why.LANDSCAPE)
    yield "why_layers", why.effects_table(frame, why.LAYERS)


def _by_depth(
    frame: pd.DataFrame, activation: str, panels: dict[str, Draw], title: str, *words: str
) -> Figure:
    """One column a depth, one row a panel, all arms in each; a row shares its axis."""
    table = why.wide(frame)
    if activation not in table.index.get_level_values("model.activation"):
        raise tidy.MissingData(f"no diagnostics of {activation}")
    table = table.xs(activation, level="model.activation", drop_level=False)
    depths = sorted(table.index.get_level_values("model.depth").unique())
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 1.6 * len(panels) + 1.8), layout="constrained")
        axes = fig.subplots(len(panels), len(depths), sharey="row", sharex="col", squeeze=False)
        for column, depth in zip(axes.T, depths, strict=True):
            here = table.xs(depth, level="model.depth", drop_level=False)
            for ax, draw in zip(column, panels.values(), strict=True):
                for arm, look in LOOKS.items():
                    if arm in here.index.get_level_values("variant"):
                        draw(ax, here.xs(arm, level="variant", drop_level=False), look)
                if ax is not column[-1]:
                    ax.set_xlabel("")
            column[0].set_title(f"{depth} hidden layers", loc="left")
        fig.align_ylabels()
        for ax, label in zip(axes[:, 0], panels, strict=True):
            ax.set_ylabel(label)
            _log_ticks(ax)
        handles = axes[0, 0].get_legend_handles_labels()
        title = f"{ACTIVATIONS.get(activation, activation)}: {title}"
        legend = fig.legend(*handles, loc="outside upper center", ncols=len(LOOKS), title=title)
        legend.get_title().set(fontsize=10.5, fontweight="bold")
        n = frame["seed"].nunique()
        mean = f"Mean of {n} seeds (geometric on logarithmic axes); band: lowest to highest seed."
        own = frame[frame["model.activation"] == activation]
        style.caption(fig, f"{style.setting(own)}. {mean}", *words)
        return fig


def _band(ax: Axes, seeds: pd.DataFrame, look: dict, scale: str, marker: str = "") -> None:
    """Rows: x; columns: seeds. On a logarithmic axis the mean is the geometric one."""
    ax.set_yscale(scale)
    seeds = seeds.replace([np.inf, -np.inf], np.nan)
    style.band(ax, seeds.where(seeds > 0) if scale == "log" else seeds, marker=marker, ms=3, **look)


def _log_ticks(ax: Axes) -> None:
    """On a logarithmic axis: powers of ten; 1, 2, 5, 10 where it spans less than two; else what fits."""
    if ax.get_yscale() == "log":
        low, high = ax.get_ylim()
        if high < 100 * low:
            narrow = high < 5 * low
            ax.yaxis.set_major_locator(MaxNLocator(4) if narrow else LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
        else:
            ax.yaxis.set_major_locator(LogLocator(numticks=5))
        ax.yaxis.set_minor_locator(NullLocator())


def _over_steps(quantity: why.Quantity, scale: str) -> Draw:
    def draw(ax: Axes, table: pd.DataFrame, look: dict) -> None:
        seeds = quantity.at_steps(table).droplevel([*why.CELL, "variant"]).unstack("seed")
        _band(ax, seeds, look, scale)
        style.steps_axis(ax, seeds.index.max())
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))

    return draw


def _against_layer(family: str, what: str, when: str) -> Draw:
    def draw(ax: Axes, table: pd.DataFrame, look: dict) -> None:
        values = why.layers(table, family, what).droplevel([*why.CELL, "variant"])
        steps = values.index.get_level_values("step")
        if when == "over training":
            each = {s: tidy.mean_over_time(rows.droplevel("seed")) for s, rows in values.groupby("seed")}
            seeds = pd.DataFrame(each, values.columns)
        else:
            seeds = values.xs(steps.min() if when == "first" else steps.max(), level="step").T
        _band(ax, seeds.dropna(how="all"), look, "log" if family == "gradient" else "linear", "o")
        ax.set(xlabel="layer")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    return draw
