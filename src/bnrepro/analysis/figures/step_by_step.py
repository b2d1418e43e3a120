"""Drawings of the step-by-step notebook: clouds, a distribution on the sigmoid, mini-batch noise."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bnrepro.analysis.figures.style import ARMS, STYLE, caption

Array = NDArray[np.float64]
BEFORE, AFTER = ARMS["baseline"]["color"], ARMS["bn"]["color"]
SHADES = ("#86bfe3", AFTER, "#06283d")  # light to dark, in print as well
LINEAR = 1.0  # |y| <= 1: there the sigmoid and its tangent 1/2 + y/4 differ by less than 0.02


def sigmoid(y: Array) -> Array:
    return 1 / (1 + np.exp(-y))


def straightness(y: Array) -> float:
    """Share of the variance of sigmoid(y) that the best straight line in y explains: r^2, 0 to 1."""
    return float(np.corrcoef(y, sigmoid(y))[0, 1] ** 2)


def clouds(stages: Mapping[str, Array]) -> Figure:
    """2-D data (n, 2) after each stage, every panel with equal axes and the origin in sight.

    The arms of the cross are one standard deviation long, from the mean. The condition number is the largest
    over the smallest eigenvalue of the mean of x x^T.
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.0, 3.9), layout="constrained")
        for ax, (title, x) in zip(fig.subplots(1, len(stages)), stages.items(), strict=True):
            ax.plot(*x.T, "o", ms=2.6, mew=0, alpha=0.45, color=AFTER)
            mean, std = x.mean(axis=0), x.std(axis=0)
            arms = {"color": BEFORE, "lw": 2.2, "capsize": 3, "zorder": 3}
            ax.errorbar(mean[0], mean[1], xerr=std[0], yerr=std[1], **arms)
            ax.axhline(0, color="#777777", lw=0.8, zorder=1)
            ax.axvline(0, color="#777777", lw=0.8, zorder=1)
            low, high = min(x.min(), 0.0), max(x.max(), 0.0)
            if low + high > -0.2 * (high - low):  # a cloud around the origin: keep it in the middle
                low, high = -max(-low, high), max(-low, high)
            pad = 0.08 * (high - low)
            ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
            ax.set(title=title, xlabel="feature 1", ylabel="feature 2")
            words = f"condition\nnumber {np.linalg.cond(x.T @ x):.3g}"
            ax.text(0.03, 0.97, words, transform=ax.transAxes, va="top")
        n = len(next(iter(stages.values())))
        caption(
            fig,
            f"{n:,} examples; both axes of a panel have the same scale. Orange: mean and standard deviation.",
            "Condition number: largest over smallest eigenvalue of the mean of $xx^T$; the larger,"
            " the more steps gradient descent on a linear least-squares layer needs.",
        )
        return fig


def on_the_sigmoid(x_hat: Array, settings: Sequence[tuple[float, float]], limit: float = 8.0) -> Figure:
    """y = gamma x_hat + beta for each (gamma, beta): inputs below the curve, outputs at its right.

    Bars: share of examples. Grey: the linear part, |y| <= 1. The first setting is drawn as "before".
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.5, 4.1), layout="constrained")
        outer = fig.add_gridspec(1, len(settings), wspace=0.06)
        edges, levels = np.linspace(-limit, limit, 65), np.linspace(0, 1, 26)
        share = np.full(len(x_hat), 1 / len(x_hat))
        margins, most = [], np.zeros(2)
        for column, (gamma, beta) in enumerate(settings):
            ratios = {"width_ratios": [4, 1], "height_ratios": [3, 1]}
            inner = outer[column].subgridspec(2, 2, wspace=0, hspace=0, **ratios)
            curve = fig.add_subplot(inner[0, 0])
            below, right = fig.add_subplot(inner[1, 0]), fig.add_subplot(inner[0, 1])
            y, color = gamma * x_hat + beta, AFTER if column else BEFORE
            _curve(curve, y, color, limit)
            inputs, *_ = below.hist(y, edges, weights=share, color=color)
            outputs, *_ = right.hist(sigmoid(y), levels, weights=share, color=color, orientation="horizontal")
            below.axvspan(-LINEAR, LINEAR, color="#dddddd", zorder=0)
            below.set(xlim=(-limit, limit), yticks=[], xlabel="input $y$")
            right.set(ylim=curve.get_ylim(), xticks=[], yticklabels=[])
            right.tick_params(length=0)
            when = "after" if column else "before"
            curve.set_title(rf"{when}: $\gamma$ = {gamma:g}, $\beta$ = {beta:g}")
            if column == 0:
                curve.set_ylabel("output, sigmoid of $y$")
            margins.append((below, right))
            most = np.maximum(most, [np.max(inputs), np.max(outputs)])
        for below, right in margins:
            below.set_ylim(0, 1.1 * most[0])
            right.set_xlim(0, 1.1 * most[1])
        caption(
            fig,
            f"{len(x_hat):,} examples. Thick: the curve between the inputs' 1st and 99th percentile;"
            " dotted: the tangent at 0.",
            "Bars: shares of the examples, inputs below each curve, outputs to its right."
            " Grey: the linear part, $|y|$ ≤ 1, where sigmoid and tangent differ by less than 0.02.",
        )
        return fig


def _curve(ax: Axes, y: Array, color: str, limit: float) -> None:
    grid = np.linspace(-limit, limit, 400)
    used = np.linspace(np.percentile(y, 1), np.percentile(y, 99), 200)
    ax.axvspan(-LINEAR, LINEAR, color="#dddddd", zorder=0)
    ax.plot(grid, sigmoid(grid), color="#444444", lw=1)
    ax.plot(grid, 0.5 + grid / 4, color="#444444", lw=1, ls=":")
    ax.plot(used, sigmoid(used), color=color, lw=4.5, alpha=0.85, solid_capstyle="round")
    inside = np.mean(np.abs(y) <= LINEAR)
    words = f"{inside:.0%} in the\nlinear part;\na straight line\nexplains {straightness(y):.1%}"
    ax.text(0.03, 0.96, words, transform=ax.transAxes, va="top", fontsize=8)
    ax.set(xlim=(-limit, limit), ylim=(-0.02, 1.02), xticklabels=[])


def batch_noise(
    panels: Mapping[str, Mapping[int, Array]], exact: Sequence[float], theory: Mapping[str, float]
) -> Figure:
    """{title: {m: draws}}: one panel a quantity, one histogram a batch size m, with its standard deviation.

    exact: for each panel, the value with population statistics (dashed), the limit of large m. theory: for each panel
    a formula, and the standard deviation that it gives at m = 1; at m that over the root of m.
    """
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(10.5, 3.7), layout="constrained")
        axes = fig.subplots(1, len(panels))
        ends = [np.percentile([*by_size.values()], [0.1, 99.9]) for by_size in panels.values()]
        half = max(high - low for low, high in ends) / 2
        told = zip(axes, exact, ends, theory.items(), panels.items(), strict=True)
        for ax, value, end, (formula, at_one), (title, by_size) in told:
            bins = np.linspace(end.mean() - half, end.mean() + half, 91)
            for color, (m, draws) in zip(SHADES, by_size.items(), strict=True):
                look = {"histtype": "stepfilled", "lw": 1.3, "ec": color, "fc": (*to_rgb(color), 0.3)}
                label = rf"{m}: {draws.std():.3f} ({at_one / np.sqrt(m):.3f})"
                ax.hist(draws, bins, density=True, label=label, **look)
            ax.axvline(value, ymax=0.66, color=BEFORE, lw=1.2, ls=ARMS["baseline"]["linestyle"])
            ax.set(title=title, xlim=(bins[0], bins[-1]), yticks=[])
            ax.set_ylim(0, 1.5 * ax.get_ylim()[1])  # room for the legend
            legend = ax.legend(title=f"$m$: standard deviation ({formula})", fontsize=8, title_fontsize=8)
            legend.set(frame_on=True)
            legend.get_frame().set(edgecolor="none", alpha=1)
        axes[0].set_ylabel("density")
        draws = len(next(iter(next(iter(panels.values())).values())))
        caption(
            fig,
            f"One fixed example in {draws:,} random mini-batches of each size $m$; the horizontal axes have"
            " the same scale. Dashed: the value with population statistics.",
        )
        return fig
