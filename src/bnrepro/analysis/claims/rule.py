"""What a rule is, how its cases add up to a verdict, and how often it errs on simulated data."""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.claims import source
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval

Frames = dict[str, pd.DataFrame]  # by the name of the file in results/, without its ending
SIMULATIONS = 4_000  # of each rule and world: an error rate of 5% is known to +- 0.7 points


class Case(NamedTuple):
    """One number that the claim speaks about. It holds where its 95% interval lies beyond `least`."""

    measure: str  # what the effect is, in the reader's words
    unit: str  # accuracy, points, steps, ratio, share, error, number (report.FORMS)
    interval: Interval
    least: float  # the smallest effect of interest; anything less counts as none
    above: bool = True  # the claim is that the effect lies above `least`; False: below
    of: str = "seeds"  # what the interval's n counts
    note: str = ""

    @property
    def fate(self) -> Literal["holds", "fails", "open"]:
        """Open: the interval holds `least`, so both what the claim says and no effect of interest."""
        low, high = self.interval.low, self.interval.high
        if not self.above:
            low, high = -high, -low
        least = self.least if self.above else -self.least
        return "holds" if low > least else "fails" if high < least else "open"


@dataclass(frozen=True)
class Verdict:
    """A claim's verdict. The effect is that of its first case: the claim in the paper's words and units."""

    verdict: str  # reproduced, partly, not reproduced, inconclusive, not tested
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    of: str = ""
    measure: str = ""
    unit: str = ""
    config: str = ""
    notebook: str = ""
    cases: str = ""  # how many of them hold, fail and are open: "10 hold, 2 open"
    note: str = ""  # every case


class Expected(NamedTuple):
    """`cases` alike cases of a rule on simulated data: what they show if the paper is right, and with no effect.

    kind: "mean" of normal values with standard deviation `spread` between seeds; "median" of ratios, whose logarithm
    has that deviation, or "ratio", their geometric mean; "share" of `n` nets; "crossed", of n rows (ensembles) with
    that deviation and `columns` (images) with one of their own. The spread is that of earlier runs, whose seeds are
    not used again.
    """

    kind: Literal["mean", "median", "ratio", "share", "crossed"]
    right: float
    none: float
    spread: float
    n: int
    least: float
    above: bool = True
    cases: int = 1
    columns: int = 0
    column_spread: float = 0.0

    def __str__(self) -> str:
        """In words, for results/rules.csv."""
        told = f"{self.cases} x {self.kind} {self.right:g} if right, {self.none:g} if not"
        told += f"; bound {self.least:g}; n {self.n}" + f"; spread {self.spread:g}" * (self.spread > 0)
        return told + f"; {self.columns} columns of {self.column_spread:g}" * (self.columns > 0)


@dataclass(frozen=True)
class Rule:
    """cases: measures them; its docstring is the rule in words. Raises MissingData where data are missing."""

    cases: Callable[[Frames], list[Case]]
    expected: tuple[Expected, ...]
    experiments: tuple[str, ...]  # files of results/ that it judges
    notebook: str

    def judge(self, frames: Frames) -> Verdict:
        cases = self.cases(frames)
        if not cases:
            raise MissingData("no case can be judged")
        first = cases[0]
        each = [
            f"{c.measure} {format_interval(c.unit, *c.interval[:3])}: {c.fate}"
            f" (bound {format_interval(c.unit, c.least)}, {c.interval.n} {c.of}){c.note}"
            for c in cases
        ]
        fates = [case.fate for case in cases]
        counts = {"hold": fates.count("holds"), "fail": fates.count("fails"), "open": fates.count("open")}
        return Verdict(
            verdict(fates),
            *first.interval,
            of=first.of,
            measure=first.measure,
            unit=first.unit,
            config=", ".join(f"experiment={name}" for name in self.experiments),
            notebook=self.notebook,
            cases=", ".join(f"{count} {fate}" for fate, count in counts.items() if count),
            note="; ".join(each),
        )

    def fingerprint(self) -> str:
        """Hash of the code that decides: `cases`, `verdict`, and all of the analysis that they call."""
        decides = self.cases.func if isinstance(self.cases, functools.partial) else self.cases
        return source.fingerprint((decides.__module__, decides.__name__), (__name__, "verdict"))

    def error_rates(self) -> dict[str, float]:
        """Columns of results/rules.csv: how often the rule says what, and its intervals' coverage.

        In three worlds: the paper is right, there is no effect, and every effect lies just at its bound.
        Coverage is NaN where there is no interval (a median of fewer than six seeds).
        """
        rng = np.random.default_rng(zlib.crc32(repr(self.expected).encode()))
        worlds, covered, intervals = {}, 0, 0
        for world in ("right", "none", "least"):
            fates = []
            for group in self.expected:
                truth = getattr(group, world)
                low, high = simulated(group, truth, rng)
                covered += ((low <= truth) & (truth <= high)).sum()
                intervals += np.isfinite(low).sum()
                holds, fails = (low > group.least, high < group.least)
                fates.append((holds, fails) if group.above else (fails, holds))
            holds, fails = (np.concatenate(parts, axis=1) for parts in zip(*fates, strict=True))
            partly = holds.any(1) & fails.any(1)
            inconclusive = ~holds.all(1) & ~fails.all(1) & ~partly
            worlds[world] = holds.all(1).mean(), inconclusive.mean(), fails.all(1).mean()
        return {
            "p_if_right": worlds["right"][0],
            "p_if_no_effect": worlds["none"][0],
            "p_at_bound": worlds["least"][0],
            "p_inconclusive_if_right": worlds["right"][1],
            "p_not_reproduced_if_right": worlds["right"][2],
            "coverage": covered / intervals if intervals else np.nan,
        }


def verdict(fates: list[str]) -> str:
    """reproduced: every case holds; not reproduced: every case fails; partly: some hold and some fail.

    Everything else is inconclusive: some cases are open, and the others agree.
    """
    if set(fates) == {"holds"}:
        return "reproduced"
    if set(fates) == {"fails"}:
        return "not reproduced"
    return "partly" if {"holds", "fails"} <= set(fates) else "inconclusive"


def simulated(group: Expected, truth: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the 95% intervals of so many simulations x cases."""
    size = (SIMULATIONS, group.cases)
    if group.kind == "share":
        bounds = np.array([statistics.share(k, group.n)[1:3] for k in range(group.n + 1)])
        found = bounds[rng.binomial(group.n, truth, size)]
        return found[..., 0], found[..., 1]
    noise = group.spread * rng.standard_normal((*size, group.n))
    if group.kind == "crossed":
        error = group.column_spread / group.columns**0.5  # of a mean over columns: the same for all rows
        low, high = statistics.t_bounds(truth + noise)
        middle = truth + noise.mean(axis=-1) + error * rng.standard_normal(size)
        half = np.hypot((high - low) / 2, 1.96 * error)
        return middle - half, middle + half
    if group.kind == "mean":
        return statistics.t_bounds(truth + noise)
    if group.kind == "ratio":
        low, high = statistics.t_bounds(np.log(truth) + noise)
        return np.exp(low), np.exp(high)
    return statistics.order_bounds(truth * np.exp(noise))


def need(frames: Frames, name: str) -> pd.DataFrame:
    if name not in frames:
        raise MissingData(f"results/{name}.* is not there")
    return frames[name]
