"""Inception and its batch-normalized variants: Figures 2 and 3, and the seven changes of section 4.2.1.

The target is Inception's own highest accuracy, for each seed its own. A run that never gets there is kept as
infinitely slow; one that diverged counts as chance. Arms are compared on the seeds that both have.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval, Statistic

BASELINE = "inception"
NETS = {  # the paper's names, in the order of its Figure 3
    "inception": "Inception",
    "bn_baseline": "BN-Baseline",
    "bn_x5": "BN-x5",
    "bn_x30": "BN-x30",
    "bn_x5_sigmoid": "BN-x5-Sigmoid",
    "inception_x5": "Inception-x5",
    "inception_sigmoid": "Inception-Sigmoid",
}
CHANGES = {  # section 4.2.1, in its order: variants add_<key> and less_<key>
    "rate": "5 times the learning rate",
    "nodropout": "no dropout",
    "l2": "L2 weight / 5",
    "decay": "rate decays 6 times faster",
    "nolrn": "no local response normalization",
    "shuffle": "thorough shuffling",
    "distort": "less photometric distortion",
}
DIRECTIONS = {"add": "BN-Baseline with - without", "less": "BN-x5 with - without"}
CLASSES = {"imagenette": 10, "tiny_imagenet": 200, "shapes": 10, "mnist": 10, "mnist5k": 10}  # all of them
SHARES = tuple(np.round(np.arange(0.3, 1.001, 0.05), 2))  # of Inception's best: targets on the way to it
LOWER = 0.95  # a second, lower target: a noisy curve is at its highest late, wherever it levelled off


def nets(frame: pd.DataFrame) -> list[str]:
    return [variant for variant in NETS if (frame["variant"] == variant).any()]


def chance(frame: pd.DataFrame) -> float:
    """1 / number of classes: data.classes, else data.num_classes, whose 0 stands for all that the set has.

    Raises MissingData where that is not known: a folder of images may have any number.
    """
    run = frame.iloc[0]
    name = run.get("data.name", "the data")
    count = run.get("data.classes", 0) or run.get("data.num_classes", 0) or CLASSES.get(name, 0)
    if not count:
        raise MissingData(f"how many classes {name} has is not known: data.num_classes must be set")
    return 1 / float(count)


def by_population(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, in which BN nets' accuracy is that with population statistics, if all their evaluations have them.

    Moving averages lag behind a net that learns fast, by 6 to 11 points with sigmoids. A net without BN has one
    accuracy. All nets of a frame are treated alike: where one evaluation after step 0 has no population statistics, the
    frame is returned as it is.
    """
    name, run = tidy.accuracy_name(frame), ["variant", "seed"]
    moving, exact = frame["name"] == name, frame["name"] == f"{name}_population"
    normalized = moving & frame["variant"].isin(frame.loc[exact, "variant"])
    where = pd.MultiIndex.from_frame(frame[[*run, "step"]])
    both = where.isin(where[exact])
    if not exact.any() or not both[normalized & (frame["step"] > 0)].all():
        return frame
    return pd.concat([frame[~(moving & both)], frame[exact].assign(name=name)], ignore_index=True)


def highest(frame: pd.DataFrame) -> pd.Series:
    """The highest accuracy after step 0, by (variant, seed); BN as in `by_population`."""
    curve = tidy.curves(by_population(frame), tidy.accuracy_name(frame))
    return curve.loc[curve.index > 0].max().fillna(chance(frame))


def final(frame: pd.DataFrame, what: str = "accuracy") -> pd.Series:
    """accuracy or top5 at the last step, by (variant, seed), BN with population statistics (Algorithm 2).

    A net without BN has none, and one evaluation. A BN run without them has no number, unless no run of its
    variant has them: then the moving averages stand in.
    """
    name = f"{tidy.accuracy_name(frame).split('/')[0]}/{what}"
    floor = chance(frame) if what == "accuracy" else min(5 * chance(frame), 1.0)
    found = last(frame, name, [], floor)
    if not (frame["name"] == f"{name}_population").any():
        return found
    exact = last(frame, f"{name}_population", [], None).reindex(found.index)
    measured = exact.notna().groupby("variant").transform("any")
    lost = frame[frame["name"] == "diverged_at"].set_index(["variant", "seed"]).index
    return exact.where(measured, found).mask(found.index.isin(lost), floor)


def target(frame: pd.DataFrame) -> pd.Series:
    """Inception's highest accuracy, by seed."""
    top = highest(frame)
    if BASELINE not in top.index.get_level_values("variant"):
        raise MissingData(f"no variant named {BASELINE}: its best accuracy is the target")
    return top[BASELINE]


def rise(frame: pd.DataFrame) -> float:
    """By how much Inception's accuracy still rises in the last third of its steps, mean over seeds.

    From the evaluations within a twentieth of the steps around two thirds, to those of the last tenth. What has not
    levelled off has no best yet that others could reach.
    """
    mine = frame[frame["variant"] == BASELINE]
    curve = tidy.curves(mine, tidy.accuracy_name(frame)).fillna(chance(frame))
    share = curve.index.to_numpy() / curve.index.max()
    before, end = curve[np.abs(share - 2 / 3) <= 0.05], curve[share >= 0.9]
    return float((end.mean() - before.mean()).mean()) if len(before) else np.inf


def rises(frame: pd.DataFrame) -> pd.DataFrame:
    """How far Inception comes, and how much of it in the last third of its steps, by data, length, rate and schedule.

    value: mean accuracy of the last tenth of the steps, mean over seeds with its interval.
    """
    run = ["data.num_classes", "train.steps", "optim.lr", "optim.decay"]
    rows = []
    for settings, mine in frame[frame["variant"] == BASELINE].groupby(run):
        curve = tidy.curves(mine, tidy.accuracy_name(mine)).fillna(chance(mine))
        end = curve[curve.index >= 0.9 * curve.index.max()].mean()
        more = format_interval("points", rise(mine))
        classes, length, *rate = settings
        words = "accuracy, mean of the last tenth"
        rows.append((classes, f"{length:,}", *rate, more, words, "accuracy", *statistics.estimate(end)))
    columns = ["classes", "steps", "rate", "decays to", "rise in the last third", "quantity"]
    return pd.DataFrame(rows, columns=[*columns, "unit", "value", "low", "high", "n"])


def steps(frame: pd.DataFrame, share: float = 1.0) -> pd.DataFrame:
    """Steps to `share` of the target, BN as in `by_population`. Index: variant, seed; columns as tidy.steps_to."""
    goal = share * target(frame)
    return tidy.steps_to(by_population(frame[frame["seed"].isin(goal.index)]), goal).set_index(
        ["variant", "seed"]
    )


def compared(
    values: pd.Series, one: str, other: str, statistic: Statistic = "mean", combine: Callable = np.subtract
) -> Interval:
    """`statistic` of combine(one, other) over the seeds both variants have; values by (variant, seed)."""
    if absent := [v for v in (one, other) if v not in values.index.get_level_values("variant")]:
        raise MissingData(f"no variant named {' or '.join(absent)}")
    a, b = values[one].align(values[other], join="inner")
    return statistics.compared(a, b, statistic, combine=combine)


def steps_ratio(frame: pd.DataFrame, one: str, other: str = BASELINE, share: float = 1.0) -> Interval:
    """Geometric mean over seeds of (steps of `one` / steps of `other`) to `share` of the target, t interval of logs.

    Where a net never gets there, its steps are infinite and no mean has an interval: then the median of the ratios and
    its exact one, from six seeds on. Where neither gets there, there is no number.
    """
    needed = steps(frame, share)["steps"]
    if np.isfinite(needed[needed.index.isin([one, other], level="variant")]).all():
        logs = compared(np.log(needed), one, other)
        return Interval(*np.exp(logs[:3]).round(12).tolist(), logs.n)  # of 1/2 exactly 1/2
    return compared(needed, one, other, "median", np.divide)


def speedups(frame: pd.DataFrame, shares: Iterable[float] = SHARES) -> pd.DataFrame:
    """`steps_ratio` to Inception, for every share of its best: share, variant, value, low, high, n.

    Shares from which some seed of the net never gets there are left out.
    """
    others, rows = [v for v in nets(frame) if v != BASELINE], []
    for share in shares:
        needed = steps(frame, share)["steps"].unstack("variant")
        for variant in [v for v in others if v in needed]:
            both = needed[[variant, BASELINE]].dropna()  # seeds that both have
            if len(both) and np.isfinite(both).all(axis=None):
                mine = frame[frame["seed"].isin(both.index)]
                rows.append((share, variant, *steps_ratio(mine, variant, share=share)))
    return pd.DataFrame(rows, columns=["share", "variant", "value", "low", "high", "n"])


def figure3_table(frame: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """The paper's Figure 3 and more: quantity, net, paper, unit, value, low, high, n, censored.

    Medians over seeds of steps, geometric means of their paired ratios, means of accuracies.
    `paper`: results/paper.csv.
    """
    published, variants, rows = _published(paper), nets(frame), []

    def add(
        quantity: str, unit: str, key: str, found: dict[str, Interval], never: dict | None = None
    ) -> None:
        for variant, interval in found.items():
            said = format_interval(unit, published.get((variant, key), np.nan))
            rows.append((quantity, NETS[variant], said, unit, *interval, int((never or {}).get(variant, 0))))

    seeds = frame.groupby("variant")["seed"].nunique()
    rates = frame.groupby("variant")[["optim.lr", "optim.lr_scale"]].first().prod(axis=1)
    rate = {v: Interval(rates[v], np.nan, np.nan, seeds[v]) for v in variants}
    add("initial rate", "number", "initial_rate", rate)
    needed = steps(frame)
    never = needed["censored"].groupby("variant").sum().to_dict()
    found = {v: statistics.estimate(needed.loc[v, "steps"], "median") for v in variants if v in never}
    add("steps to Inception's best", "steps", "steps_to_target", found, never)
    others = [v for v in found if v != BASELINE]
    add("the same / Inception's", "ratio", "ratio", {v: steps_ratio(frame, v) for v in others}, never)
    lower = {v: steps_ratio(frame, v, share=LOWER) for v in others}
    never = steps(frame, LOWER)["censored"].groupby("variant").sum().to_dict()
    add(f"steps to {LOWER:.0%} of it / Inception's", "ratio", "", lower, never)
    name = tidy.accuracy_name(frame)
    values = {
        ("highest accuracy", "highest_accuracy"): highest(frame),
        ("final accuracy (moving averages in BN)", ""): last(frame, name, [], chance(frame)),
        ("final accuracy (population statistics in BN)", ""): final(frame),
    }
    if (frame["name"] == name.replace("accuracy", "top5")).any():
        values["final top-5 accuracy (population statistics in BN)", ""] = final(frame, "top5")
    for (quantity, key), each in values.items():
        add(quantity, "accuracy", key, {v: statistics.estimate(each[v]) for v in variants})
    lost = frame[frame["name"] == "diverged_at"].groupby("variant")["seed"].nunique()
    share = {v: Interval(lost.get(v, 0) / seeds[v], np.nan, np.nan, seeds[v]) for v in variants}
    add("share of seeds that diverged", "ratio", "", share)
    columns = ["quantity", "net", "paper", "unit", "value", "low", "high", "n", "censored"]
    return pd.DataFrame(rows, columns=columns)


def figure2_table(frame: pd.DataFrame, paper: pd.DataFrame | None = None, share: float = 0.8) -> pd.DataFrame:
    """A row per net, in words: how fast it comes to `share` of Inception's best and to all of it, and where it ends.

    Steps are divided by Inception's on the seeds that both have, as `steps_ratio`, and final accuracies subtracted,
    with an interval from three seeds on; "never (2 of 3)" counts those that do not come there. `paper`:
    results/paper.csv, whose ratios stand beside ours.
    """
    best, ends, published, rows = highest(frame), final(frame), _published(paper), []
    losses = frame[frame["name"] == "train/loss"]
    if len(losses):
        losses = last(frame, "train/loss", [], np.inf).groupby("variant").mean()
    for net in nets(frame):
        mine = best[net]
        row: dict[str, object] = {"net": NETS[net], "seeds": len(mine)}
        row[f"steps / Inception's, to {share:.0%} of its best"] = _ratio_in_words(frame, net, share)
        row["to all of it"] = _ratio_in_words(frame, net, 1.0)
        if paper is not None:
            row["the paper's, to all of it"] = format_interval("ratio", published.get((net, "ratio"), np.nan))
        span = f"({100 * mine.min():.1f} to {100 * mine.max():.1f})"
        row["highest accuracy (seeds)"] = f"{mine.mean():.1%} {span}"
        row["final accuracy"] = f"{ends[net].mean():.1%}"
        row["minus Inception's"] = _difference_in_words(ends, net)
        if len(losses):
            row["final training loss"] = f"{losses[net]:.2f}" if net in losses else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def _ratio_in_words(frame: pd.DataFrame, net: str, share: float) -> str:
    if net == BASELINE:
        return "1"
    never = steps(frame, share)["censored"]
    if net not in never.index.get_level_values("variant"):  # it shares no seed with Inception
        return "–"
    if never[net].any():
        return f"never ({never[net].sum()} of {len(never[net])})"
    value, low, high, n = steps_ratio(frame, net, share=share)
    return format_interval("ratio", value, *((low, high) if n > 2 else ()))


def _difference_in_words(values: pd.Series, net: str) -> str:
    shared = values[net].index.intersection(values[BASELINE].index)
    if net == BASELINE or shared.empty:
        return "–"
    value, low, high, n = compared(values, net, BASELINE)
    return format_interval("points", value, *((low, high) if n > 2 else ()))


def _published(paper: pd.DataFrame | None) -> dict[tuple[str, str], float]:
    """What the paper's Figure 3 says, by (variant, quantity), and its steps over Inception's as "ratio"."""
    if paper is None:
        return {}
    found = paper.set_index(["variant", "quantity"])["value"].to_dict()
    return found | {
        (variant, "ratio"): value / found[BASELINE, "steps_to_target"]
        for (variant, quantity), value in found.items()
        if quantity == "steps_to_target" and variant != BASELINE
    }


def at_multiples(frame: pd.DataFrame) -> pd.DataFrame:
    """What became of nets at multiples of a rate: rate, multiple, variant, seed, accuracy, lost, fails.

    lost: the loss was not finite; accuracy (BN with population statistics) is chance then. A net fails if it is lost,
    or if it came less than half as far from chance as the best net of its variant and seed at any multiple, although
    one at a lower multiple came that far: what falls short at every lower rate, too, is not failing but slow.
    """
    cell, name = ["optim.lr", "optim.lr_scale"], tidy.accuracy_name(frame)
    values, floor = last(frame, name, cell, None), chance(frame)
    if (frame["name"] == f"{name}_population").any():
        exact = last(frame, f"{name}_population", cell, None).reindex(values.index)
        values = exact.where(exact.notna().groupby("variant").transform("any"), values)
    nets = values.rename("accuracy").reset_index().rename(columns={cell[0]: "rate", cell[1]: "multiple"})
    nets = nets.sort_values(["rate", "variant", "seed", "multiple"], ignore_index=True)
    nets["lost"] = nets["accuracy"].isna()
    nets["accuracy"] = nets["accuracy"].fillna(floor)
    way, own = nets["accuracy"] - floor, [nets["rate"], nets["variant"], nets["seed"]]
    short = nets["lost"] | (way < way.groupby(own).transform("max") / 2)
    works = (~short).groupby(own).cummax()  # here, or at a lower multiple
    return nets.assign(fails=nets["lost"] | (short & works))


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of nets that fail at each multiple, with its exact 95% interval, and the mean accuracy of all of them."""
    cells = at_multiples(frame).groupby(["rate", "variant", "multiple"], sort=False)
    rows = [
        {
            "rate": rate,
            "net": NETS[variant],
            "multiple": f"{multiple:g}",
            "loss not finite": int(nets["lost"].sum()),
            "mean accuracy": f"{nets['accuracy'].mean():.1%}",
            "unit": "share",
            **statistics.share(int(nets["fails"].sum()), len(nets))._asdict(),
        }
        for (rate, variant, multiple), nets in cells
    ]
    table = pd.DataFrame(rows)
    table.attrs["n"] = "nets"
    return table


def ablation(frame: pd.DataFrame) -> dict[tuple[str, str], tuple[pd.Series, pd.Series]]:
    """{(direction, change): final accuracy by seed (with the change, without it)}, where measured."""
    accuracy = final(frame)
    measured = set(accuracy.index.get_level_values("variant"))
    pairs = {}
    for change in CHANGES:
        for direction, (one, other) in {
            "add": (f"add_{change}", "bn_baseline"),
            "less": ("bn_x5", f"less_{change}"),
        }.items():
            if {one, other} <= measured:
                pairs[direction, change] = accuracy[one].align(accuracy[other], join="inner")
    if not pairs:
        raise MissingData("no change of section 4.2.1 beside its reference")
    return pairs


def ablation_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Effect of each change on final accuracy, positive where it helps; Holm's correction over all rows.

    In BN-Baseline: add_<change> - bn_baseline. In BN-x5: bn_x5 - less_<change>, what it would lose without.
    """
    rows = [
        {
            "change": CHANGES[change],
            "effect": DIRECTIONS[direction],
            "unit": "points",
            **statistics.paired(*pair),
        }
        for (direction, change), pair in ablation(frame).items()
    ]
    return statistics.corrected(rows)
