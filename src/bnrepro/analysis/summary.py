"""What runs found, a line each: for the end of a run or sweep and for scripts/runs.py. Reads run folders only."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from bnrepro.analysis.statistics import Interval, estimate
from bnrepro.config.schema import flat, is_how
from bnrepro.runs.folder import RunFolder

TARGETS = (
    0.99,
    0.98,
    0.97,
    0.95,
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
    0.4,
    0.3,
    0.2,
)  # accuracies, steps to which are told
UNTOLD = ("seeds", "regime", "experiment", "variant")  # settings that do not tell the runs of a sweep apart


class Curves(NamedTuple):
    """A run's accuracy over training: of each seed (step, share of images) by step; NaN where the net diverged."""

    split: str  # "test", or "val" where images are held out
    seeds: dict[int, list[tuple[int, float]]]

    @property
    def diverged(self) -> list[int]:
        return sorted(seed for seed, points in self.seeds.items() if math.isnan(points[-1][1]))

    def over_seeds(self, which: str) -> Interval | None:
        """The "final" or "best" accuracy of the seeds that did not diverge; None where there is none."""
        good = [[a for _, a in points] for seed, points in self.seeds.items() if seed not in self.diverged]
        values = [accuracies[-1] if which == "final" else max(accuracies) for accuracies in good]
        return estimate(values) if values else None

    def reached(self) -> float:
        """The accuracy that half of the seeds, or more, have had."""
        best = [
            max((a for _, a in points if not math.isnan(a)), default=0.0) for points in self.seeds.values()
        ]
        return sorted(best, reverse=True)[(len(best) - 1) // 2]

    def steps_to(self, target: float) -> float:
        """The first step at which half of the seeds, or more, have been as accurate as that; inf: never."""
        first = [
            next((step for step, accuracy in points if accuracy >= target), math.inf)
            for points in self.seeds.values()
        ]
        return sorted(first)[(len(first) - 1) // 2]


class Line(NamedTuple):
    """A run: its settings, flat, its folder and state, and what was measured (None: nothing yet)."""

    settings: Mapping[str, Any]
    folder: RunFolder
    state: str
    curves: Curves | None


def line(folder: RunFolder, settings: Mapping[str, Any] | None = None, state: str | None = None) -> Line:
    """Of a run's folder, with its own settings and state unless given. A damaged file is a state, and ends nothing."""
    try:
        settings = settings or flat(yaml.safe_load(folder.config.read_text()))
        return Line(settings, folder, state or state_of(folder), curves(folder))
    except (ValueError, OSError, AttributeError, yaml.YAMLError):  # ConfigError is a ValueError
        return Line(settings or {}, folder, "damaged", None)


def curves(folder: RunFolder) -> Curves | None:
    """None where no accuracy has been measured. Raises ValueError for a damaged table."""
    if not folder.table.exists():
        return None
    by_split: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for row in folder.rows():
        split, _, name = row.name.partition("/")
        if name == "accuracy" and split in ("test", "val"):
            by_split.setdefault(split, {}).setdefault(row.seed, []).append((row.step, row.value))
    split = "val" if "val" in by_split else "test"
    if split not in by_split:
        return None
    return Curves(split, {seed: sorted(points) for seed, points in sorted(by_split[split].items())})


def state_of(folder: RunFolder) -> str:
    """What run.json says; "killed" where it says that a process works on the run, and none does."""
    state = folder.status().get("state", "not started")
    return "killed" if state == "running" and not folder.at_work() else state


def records(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A row a run: what varies among the runs, the state, accuracies (mean over seeds and 95% interval), the folder.

    Accuracies are shares. `steps_to` is the step at which half of a run's seeds have reached `target`, inf if they
    never do: the highest of a fixed list that half of the runs reach.
    """
    told = ["variant", *_varied(lines)]
    target, rows = _target(lines), []
    for settings, folder, state, found in lines:
        row: dict[str, Any] = {key: settings.get(key) for key in told}
        row |= {"state": state, "seeds": len(found.seeds) if found else 0}
        for which in ("final", "best"):
            interval = found.over_seeds(which) if found else None
            value, low, high, _ = interval or Interval(math.nan, math.nan, math.nan, 0)
            row |= {which: value, f"{which}_low": max(low, 0.0), f"{which}_high": min(high, 1.0)}
        reached = found.steps_to(target) if found and target else math.nan
        row |= {"target": target or math.nan, "steps_to": reached}
        row |= {"diverged": " ".join(map(str, found.diverged)) if found else "", "folder": str(folder)}
        rows.append(row)
    return rows


def rendered(lines: Sequence[Line], how: str) -> str:
    """`records` as CSV or JSON: NaN, not measured, is an empty cell or null; infinite, such as steps, is "never"."""

    def plain(v: Any) -> Any:
        number = isinstance(v, float)
        return None if number and math.isnan(v) else "never" if number and math.isinf(v) else v

    rows = [{key: plain(v) for key, v in row.items()} for row in records(lines)]
    if how == "json":
        return json.dumps(rows, indent=2)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["folder"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def columns(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """(headings, cells) of a table for people: percent, intervals in brackets, no column that is empty throughout."""
    splits = {each.curves.split for each in lines if each.curves}
    split, target = " or ".join(sorted(splits)), _target(lines)
    told = ["variant", *_varied(lines)]
    headings = [key.split(".")[-1] for key in told]
    headings += ["state", "seeds", f"final {split} accuracy, %".replace("  ", " "), "best"]
    headings += [f"steps to {target:.0%}" if target else "steps", "diverged seeds"]
    cells = []
    for row in records(lines):
        settings = [_short(row[key]) for key in told]
        accuracies = [_percent(row, "final"), _percent(row, "best")]
        steps = row["steps_to"]
        words = "" if math.isnan(steps) else "never" if math.isinf(steps) else f"{steps:,}"
        cells.append([*settings, row["state"], str(row["seeds"] or ""), *accuracies, words, row["diverged"]])
    filled = [i for i in range(len(headings)) if any(row[i] for row in cells)]
    return [headings[i] for i in filled], [[row[i] for i in filled] for row in cells]


def _varied(lines: Sequence[Line]) -> list[str]:
    """The settings that differ among the runs, and not only because their variants do."""
    keys = dict.fromkeys(
        key for each in lines for key in each.settings if key not in UNTOLD and not is_how(key)
    )
    return [key for key in keys if len(_pairs(lines, key)) > len(_pairs(lines, "variant"))]


def _pairs(lines: Sequence[Line], key: str) -> set[tuple[str, str]]:
    return {(repr(each.settings.get("variant")), repr(each.settings.get(key))) for each in lines}


def _target(lines: Sequence[Line]) -> float | None:
    best = sorted(each.curves.reached() for each in lines if each.curves)
    return next((target for target in TARGETS if best and best[len(best) // 2] >= target), None)


def _percent(row: Mapping[str, Any], which: str) -> str:
    value, low, high = (100 * row[key] for key in (which, f"{which}_low", f"{which}_high"))
    if math.isnan(value):
        return ""
    return f"{value:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _short(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
