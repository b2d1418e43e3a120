"""Figure 2 of the paper, accuracy of Inception and its variants, and what multiples of the rate do to them."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.effects import imagenet as effects
from bnrepro.analysis.figures import style
from bnrepro.analysis.figures.style import AMBER, BLUE, GREEN, GREY, PINK, SKY, VERMILION

DASHED = (0, (4, 1.5))  # without BN, as in the other figures
PAPERS_PLACE = 104  # on the axis of shares, %: beside what was measured
LEVEL = 0.005  # of accuracy in the last third of the steps: with more, C8 to C10 stay open
FEW = 3  # seeds from which on a t interval is drawn
LOOKS = {  # shapes mark the steps to the target
    "inception": {"color": VERMILION, "linestyle": DASHED, "marker": "v"},
    "bn_baseline": {"color": BLUE, "linestyle": "-", "marker": "s"},
    "bn_x5": {"color": GREEN, "linestyle": "-", "marker": "D"},
    "bn_x30": {"color": PINK, "linestyle": "-", "marker": "^"},
    "bn_x5_sigmoid": {"color": SKY, "linestyle": (0, (5, 1, 1, 1)), "marker": "o"},
    "inception_x5": {"color": "#000000", "linestyle": DASHED, "marker": "X"},
    "inception_sigmoid": {"color": AMBER, "linestyle": (0, (1, 1)), "marker": "P"},
}
FAILING = {"inception_x5": "at 5 times the rate", "inception_sigmoid": "with sigmoids"}
WITH_BN = {"inception_x5": "bn_x5", "inception_sigmoid": "bn_x5_sigmoid"}  # the same, for comparison


def described(frame: pd.DataFrame) -> str:
    """For captions: "imagenette, batch 32, 4,000 steps, 10 classes, 32 px, width × 0.25"."""
    words = [style.setting(frame, rates=False)]
    if "train.steps" in frame and frame["train.steps"].nunique() > 1:
        words.append(f"{style.span(frame['train.steps'])} steps")
    forms = {"data.num_classes": "{:g} classes", "data.size": "{:g} px", "model.multiplier": "width × {:g}"}
    for column, form in forms.items():
        if column in frame and frame[column].nunique() == 1 and frame[column].iloc[0]:
            words.append(form.format(frame[column].iloc[0]))
    return ", ".join(word for word in words if word)


def counted(frame: pd.DataFrame) -> str:
    """How many each net has, for captions: "1 seed", "2 to 4 seeds"."""
    counts = frame.groupby("variant")["seed"].nunique()
    return f"{style.span(counts)} seed{'s' if counts.max() > 1 else ''}"


def normalized_by(frame: pd.DataFrame) -> str:
    """What BN normalizes by in the curves, for captions."""
    return "moving averages" if effects.by_population(frame) is frame else "population statistics"


def figure2(frame: pd.DataFrame) -> Figure:
    """(a) Inception and its variants with BN, marked where they reach its best; (b) those that fail."""
    curve = 100 * tidy.curves(effects.by_population(frame), tidy.accuracy_name(frame))
    variants, chance = effects.nets(frame), 100 * effects.chance(frame)
    failing = [v for v in FAILING if v in variants]
    with mpl.rc_context(style.STYLE):
        rows = 2 if failing else 1
        fig = Figure(figsize=(style.WIDTH, 6.9 if failing else 4.5), layout="constrained")
        axes = fig.subplots(rows, 1, sharex=True, sharey=True, squeeze=False, height_ratios=[2, 1][:rows])
        above, below = axes[0, 0], axes[-1, 0]
        _lines(above, curve, [v for v in variants if v not in failing])
        marks = _marks(above, frame)
        for ax in axes.flat:
            ax.set(ylim=(0, None), ylabel=f"{style.split(frame)} accuracy, %")
        if failing:
            pale = [WITH_BN[v] for v in failing if WITH_BN[v] in variants]
            _lines(below, curve, pale, alpha=0.45, names=False)
            _lines(below, curve, failing)
            _crosses(below, frame, curve, failing)
            below.axhline(chance, color=GREY, lw=0.9, ls=(0, (1, 2)))
            above.set(title="(a) Inception, and with BN", xlabel="")
            below.set_title(f"(b) without BN, {' or '.join(FAILING[v] for v in failing)}")
        lost = (frame["name"] == "diverged_at") & frame["variant"].isin(failing)
        crosses = " ×: a seed's loss was not finite." if lost.any() else ""
        beside = f"(b) Pale: the same with BN. Dotted: chance, {chance:.3g}%.{crosses}"
        style.caption(
            fig,
            f"{described(frame)}. Mean of {counted(frame)}; band: lowest to highest seed. BN: {normalized_by(frame)}.",
            "Grey line: Inception's best, the mean of its seeds' highest accuracies. Marks on it: step at which that is"
            f" reached, each seed's beside the best of the same seed, median: {marks}.{_still_rising(frame)}",
            *([beside] if failing else []),
        )
        return fig


def _still_rising(frame: pd.DataFrame) -> str:
    """A best that others are to reach is a plateau, or the caption says that it is none."""
    rise = effects.rise(frame)
    known = np.isfinite(rise) and rise >= LEVEL
    return f" Inception still rises, by {100 * rise:.1f} points in the last third." if known else ""


def speedup(frame: pd.DataFrame, table: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Steps of each net / Inception's, against the accuracy that is to be reached.

    table: effects.speedups of the frame; paper: results/paper.csv.
    """
    published = {}
    if paper is not None:
        needed = paper[paper["quantity"] == "steps_to_target"].set_index("variant")["value"]
        published = (needed / needed[effects.BASELINE]).to_dict()
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 3.7), layout="constrained")
        ax = fig.subplots()
        for variant, rows in table.groupby("variant", sort=False):
            look, share = LOOKS[variant], 100 * rows["share"]
            wide = rows["n"].lt(FEW).to_numpy()  # the t interval of two seeds would fill the figure
            ax.fill_between(share, rows["low"], rows["high"], ~wide, color=look["color"], alpha=0.18, lw=0)
            ax.plot(share, rows["value"], ms=4, label=effects.NETS[variant], **look)
            if np.isfinite(published.get(variant, np.nan)):  # one of the paper's never arrives
                mark = {"color": look["color"], "marker": look["marker"], "mfc": "none", "clip_on": False}
                ax.plot(PAPERS_PLACE, published[variant], ls="", ms=6, **mark)
                text = {"color": look["color"], "va": "center", "fontsize": 8.5, "xytext": (11, 0)}
                where = {"textcoords": "offset points", "annotation_clip": False}
                ax.annotate(f"{published[variant]:.2f}", (PAPERS_PLACE, published[variant]), **text, **where)
        if published:
            ax.axvline(101.5, color=GREY, lw=0.9, ls=":")
            look = {"ha": "center", "va": "bottom", "fontsize": 8, "color": "#444444"}
            ax.annotate("paper\n100%", (PAPERS_PLACE, 1.01), xycoords=("data", "axes fraction"), **look)
        ax.axhline(1, color=GREY, lw=0.9)
        shown = [value for value in (*table["value"], *published.values()) if np.isfinite(value)]
        ax.set(
            yscale="log",
            xlim=(None, 106 if published else 101),
            ylim=(0.8 * min(0.05, *shown), 1.2 * max(2, *shown)),
            xlabel="accuracy to be reached, % of Inception's best",
        )
        ax.set_ylabel("steps / Inception's steps")
        ticks = [0.05, 0.1, 0.2, 0.5, 1, 2]
        ax.yaxis.set_major_locator(FixedLocator(ticks))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8.5)
        beside = " Open marks: the paper's steps to all of it, on ImageNet." if published else ""
        pairs = style.span(table["n"])
        enough = "band: 95% interval" if table["n"].ge(FEW).any() else "no interval"
        few = f" (not of fewer than {FEW} seeds)" if table["n"].lt(FEW).any() else ""
        style.caption(
            fig,
            f"{described(frame)}. Steps to a share of Inception's best accuracy, divided by Inception's own: geometric"
            f" mean of {pairs} paired seeds; {enough}{few}. BN: {normalized_by(frame)}."
            f"{beside} A net's line ends where one of its seeds does not arrive.",
        )
        return fig


def multiples(frame: pd.DataFrame) -> Figure:
    """Against the multiple of the rate: the share of nets that fail, and what each net comes to."""
    nets, table = effects.at_multiples(frame), effects.failures(frame)
    variants = [v for v in effects.nets(frame) if v in set(nets["variant"])]
    factors = sorted(nets["multiple"].unique())
    exact = frame["name"].str.endswith("accuracy_population").any()
    with mpl.rc_context(style.STYLE):
        fig = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        for k, variant in enumerate(variants):
            look = {"color": LOOKS[variant]["color"], "marker": LOOKS[variant]["marker"]}
            rows = table[table["net"] == effects.NETS[variant]]
            at = np.array([factors.index(float(m)) for m in rows["multiple"]]) + 0.16 * k - 0.08
            low, high, value = (100 * rows[c].to_numpy() for c in ("low", "high", "value"))
            left.vlines(at, low, high, color=look["color"], lw=1.6)
            left.plot(at, value, ls="", ms=5, label=effects.NETS[variant], **look)
            mine = nets[nets["variant"] == variant]
            at = np.array([factors.index(m) for m in mine["multiple"]]) + 0.16 * k - 0.08
            accuracy, lost = 100 * mine["accuracy"].to_numpy(), mine["lost"].to_numpy()
            right.plot(at[~lost], accuracy[~lost], ls="", ms=4.5, mfc="none", **look)
            alike = pd.Series(accuracy[~lost]).groupby(at[~lost]).value_counts()
            for (x, height), count in alike[alike > 2].items():
                label = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 8.5}
                right.annotate(f"{count} seeds", (x, height), color=look["color"], **label)
            right.plot(at[lost], accuracy[lost], "x", color=look["color"], ms=5)
        for ax in (left, right):
            ax.set_xticks(range(len(factors)), [f"{factor:g}×" for factor in factors])
            ax.set_xlabel("of Inception's best rate")
            if 5 in factors:
                ax.axvline(factors.index(5), color=GREY, lw=0.8, ls=":", zorder=0)
        left.axhline(50, color=GREY, lw=0.8, zorder=0)
        left.set(ylabel="nets that fail, %", ylim=(-3, 103), title="(a) nets that fail")
        right.axhline(100 * effects.chance(frame), color=GREY, lw=0.9, ls=(0, (1, 2)))
        right.set(
            ylabel=f"{style.split(frame)} accuracy, %", ylim=(0, None), title="(b) what each net comes to"
        )
        fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        rates = ", ".join(f"{rate:g}" for rate in sorted(nets["rate"].unique()))
        crosses = " (×)" if nets["lost"].any() else ""
        style.caption(
            fig,
            f"{described(frame)}; rate {rates}. {int(table['n'].max())} paired seeds a cell; line: exact 95% interval."
            f" BN: {'population statistics' if exact else 'moving averages'}.",
            f"A net fails if its loss is not finite{crosses}, or if it comes less than half as far from chance (dotted)"
            " as the best of the same net and seed, although one at a lower rate comes that far. The paper's claim is"
            " about 5 times the rate, judged against one half.",
        )
        return fig


def published_multiples(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "c7_inception", multiples(frame)
    yield "c7_inception", effects.failures(frame)


def published_rates(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield "rates_fig2", effects.rises(frame)


def published(
    frame: pd.DataFrame, suffix: str = "", paper: pd.DataFrame | None = None
) -> Iterator[tuple[str, Figure | pd.DataFrame]]:
    yield f"figure2_imagenet{suffix}", figure2(frame)
    yield f"figure3_imagenet{suffix}", effects.figure3_table(frame, paper)
    if len(table := effects.speedups(frame)):
        yield f"speedup_imagenet{suffix}", speedup(frame, table, paper)
    yield f"figure2_imagenet{suffix}", effects.figure2_table(frame, paper)


def _lines(
    ax: Axes, curve: pd.DataFrame, variants: list[str], alpha: float = 1.0, names: bool = True
) -> None:
    """Mean over seeds, a band from the lowest to the highest, and each name where its line ends."""
    ends = {}
    for variant in variants:
        look = LOOKS[variant]
        trained = curve.loc[curve.index > 0, variant]  # a logarithmic axis has no step 0
        style.band(ax, trained, color=look["color"], linestyle=look["linestyle"], alpha=alpha)
        ends[variant] = float(curve[variant].mean(axis=1).dropna().iloc[-1])
    # The differences are early, and the nets train for different times: steps by their orders of magnitude.
    ax.set(xscale="log", xlim=(curve.index[curve.index > 0].min(), curve.index.max()))
    ax.set_xlabel("training steps (logarithmic)")
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_minor_locator(NullLocator())
    if names:
        heights = spread(ends, gap=0.055 * float(curve.max(axis=None)))
        for variant, height in heights.items():
            ax.annotate(
                effects.NETS[variant],
                (1.015, height),
                xycoords=("axes fraction", "data"),
                va="center",
                color=LOOKS[variant]["color"],
                fontweight="bold",
                fontsize=8.5,
            )


def spread(heights: dict[str, float], gap: float) -> dict[str, float]:
    """The same heights moved apart, lowest first, so that no two labels are closer than `gap`."""
    placed, below = {}, -np.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        below = placed[name] = max(height, below + gap)
    shift = np.mean(list(heights.values())) - np.mean(list(placed.values())) if placed else 0.0
    return {name: height + shift for name, height in placed.items()}


def _marks(ax: Axes, frame: pd.DataFrame) -> str:
    """The line of the mean target and on it a mark per net that gets there; returns the steps in words.

    Marks are hollow, so that those at one step do not hide each other.
    """
    goal = 100 * float(effects.target(frame).mean())
    ax.axhline(goal, color=GREY, lw=0.9)
    place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points"}
    ax.annotate(f"Inception's best, {goal:.1f}%", (0.01, goal), color="#555555", fontsize=8.5, **place)
    needed, words = effects.steps(frame), []
    for variant in (v for v in effects.nets(frame) if v not in FAILING and v in needed.index):
        mine = needed.loc[variant]
        at, never, of = mine["steps"].median(), mine["censored"].sum(), len(mine)
        late = f"not in {mine['budget'].max():,.0f} ({never} of {of} seeds)"
        words.append(f"{effects.NETS[variant]} {f'{at:,.0f}' if np.isfinite(at) else late}")
        if np.isfinite(at):
            look = {"color": LOOKS[variant]["color"], "mfc": "none", "mew": 1.8, "ms": 8}
            ax.plot(at, goal, LOOKS[variant]["marker"], **look, zorder=5, clip_on=False)
    return ", ".join(words)


def _crosses(ax: Axes, frame: pd.DataFrame, curve: pd.DataFrame, variants: list[str]) -> None:
    """Where a seed's loss was first not finite, at its last finite accuracy."""
    lost = frame[(frame["name"] == "diverged_at") & frame["variant"].isin(variants)]
    for variant, seed, step in lost[["variant", "seed", "value"]].itertuples(index=False):
        before = curve[variant, seed].dropna().loc[lambda c, step=step: c.index <= step]
        if len(before):
            ax.plot(
                max(step, ax.get_xlim()[0]),
                before.iloc[-1],
                "x",
                color=LOOKS[variant]["color"],
                ms=8,
                mew=2,
                zorder=6,
            )
