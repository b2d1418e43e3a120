"""The noise of mini-batch statistics beside its theory, and the generalization gap against batch size."""

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects import noise
from bnrepro.analysis.figures.grid import batch_axis
from bnrepro.analysis.figures.style import ARMS, GREEN, PINK, STYLE, WIDTH, band, caption, intervals, setting

FROZEN = {"label": "BN, noise frozen", "color": GREEN, "linestyle": (0, (6, 1.5, 1, 1.5))}
GHOST = {"label": "Ghost BN of 16", "color": PINK, "linestyle": ""}
VARIANTS = {**ARMS, "bn_frozen": FROZEN, "bn_ghost": GHOST}
MARKS = {"baseline": "o", "bn": "s", "bn_frozen": "^", "bn_ghost": "D"}


def batch_noise(frame: pd.DataFrame) -> Figure:
    """(a, b) variance of the batch mean and variance, with theory; (c) of the logits; (d) the gap."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, 6.6), layout="constrained")
        (a, b), (c, d) = fig.subplots(2, 2)
        variance(a, frame, "mu")
        variance(b, frame, "var")
        variance(c, frame, "logit")
        fits = gap_where_fitted(d, frame)
        a.set(title="(a) batch mean of a unit", ylabel="variance / σ²")
        b.set(title="(b) batch variance of a unit", ylabel="variance / σ⁴")
        c.set(title="(c) logits of a fixed example", ylabel="variance")
        d.set(title="(d) generalization gap", ylabel="training - test accuracy, points")
        for ax in (a, b, c):
            ax.set_xlabel("examples normalized together, M")
            ax.legend(loc="lower left")
        d.set_xlabel("batch size in training")
        n = frame["seed"].nunique()
        images = frame["data.examples"].iloc[0]
        caption(
            fig,
            f"{setting(frame)}; {images:,} training images, a subset for each seed. Mean of {n} seeds;"
            " bands: lowest to highest seed (a to c), 95% interval (d).",
            "(a to c) Finished nets with BN, over random draws of M training images, (a, b) a typical unit of"
            " the last hidden layer.",
            "Thick: at every M another net, the one trained at that batch size; thin: one net each, trained at one"
            " batch size, mean of seeds. (d) Evaluation mode, where the training loss first falls to the lowest that"
            f" every net reaches{fits}.",
        )
        return fig


def variance(ax: Axes, frame: pd.DataFrame, what: str) -> None:
    """Variance against M, both logarithmic: every net thin, the nets at their own batch size thick."""
    table = noise.noise(frame, what)
    color = ARMS["bn"]["color"]
    for _, nets in table.groupby(level="data.batch_size"):
        ax.plot(table.columns, nets.mean(), color=color, lw=0.6, alpha=0.4)
    own = _own(table)
    band(ax, own, color=color, marker="s", markersize=4.5, label="measured")
    if what == "logit":
        reference = own.mean(axis=1).iloc[0] * own.index[0] / own.index
        ax.plot(own.index, reference, color="k", linestyle=":", lw=1.2, label="proportional to 1/M")
    else:
        ideal = _own(noise.expected(frame, what)).mean(axis=1)
        label = "theory: 1/M" if what == "mu" else "theory, with the unit's kurtosis"
        ax.plot(ideal.index, ideal, color="k", linestyle=":", lw=1.2, label=label, zorder=3)
    ax.set_yscale("log")
    batch_axis(ax, table.columns)


def gap(ax: Axes, frame: pd.DataFrame) -> None:
    """The gap at equal training loss against batch size, in points; not drawn where a run of the variant diverged.

    frame: of nets that fit their images (`noise.fitted`); else the one that fits least decides where all are compared.
    """
    table = 100 * noise.gaps(frame)
    for arm, look in VARIANTS.items():
        if arm in table.index.get_level_values("variant"):
            seeds = table.loc[arm].dropna(axis=1)
            if seeds.empty:
                continue
            bounds = pd.DataFrame([statistics.estimate(seeds[m]) for m in seeds], seeds.columns)
            intervals(ax, bounds, marker=MARKS[arm], markersize=4.5, **look)
    batch_axis(ax, table.columns)


def gap_where_fitted(ax: Axes, frame: pd.DataFrame) -> str:
    """`gap` at the batch sizes at which nets fit their images; returns which were left out, for the caption."""
    try:
        fitted, short = noise.fitted(frame)
    except tidy.MissingData as missing:  # the noise needs no fitted nets: its panels stay
        ax.text(0.5, 0.5, "no net fits its images", transform=ax.transAxes, ha="center")
        return f"; {missing}"
    gap(ax, fitted)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.35 * (high - low), high)  # room for the legend
    ax.legend(loc="lower center", ncols=2, fontsize=8)
    sizes = ", ".join(map(str, short))
    return f"; without mini-batches of {sizes}, at which nets have not fitted their images" if short else ""


def published(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "batch_noise", batch_noise(frame)
    yield "batch_noise", noise.noise_table(frame)
    yield "batch_noise_gap", noise.gap_table(noise.fitted(frame)[0])


def _own(table: pd.DataFrame) -> pd.DataFrame:
    """Rows: M, columns: seed; from each net the M that is the batch size of its training."""
    batches = [m for m in table.columns if m in table.index.get_level_values("data.batch_size")]
    if not batches:
        raise tidy.MissingData("no net was measured at the batch size of its training")
    return pd.DataFrame({m: table.xs(m, level="data.batch_size")[m] for m in batches}).T
