"""Numbers -> Markdown: tables of effects, and the scorecard as a file and as the README's block."""

import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

BEGIN, END = "<!-- scorecard -->", "<!-- /scorecard -->"
FORMS = {  # unit: factor, format, what follows the value
    "accuracy": (100, "{:.2f}", "%"),
    "points": (100, "{:+.2f}", " points"),
    "steps": (1, "{:,.0f}", ""),
    "ratio": (1, "{:.2f}", ""),
    "error": (1, "{:.1e}", ""),
    "share": (1, "{:.2f}", ""),
    "number": (1, "{:.3g}", ""),
}


def format_interval(unit: str, value: float, low: float = np.nan, high: float = np.nan) -> str:
    """97.85% [97.70, 98.00]: without bounds where they are NaN or infinite; infinitely many steps are "never"."""
    if np.isnan(value):
        return "–"
    factor, form, suffix = FORMS[unit]
    # rounded first as the files are, so that a number reads the same before it is stored and after
    value, low, high = (float(f"{v:.6g}") for v in (value, low, high))
    shown = ["never" if np.isinf(v) else form.format(v * factor) for v in (value, low, high)]
    bounds = "" if not np.isfinite(low) or unit == "error" else f" [{shown[1]}, {shown[2]}]"
    return shown[0] + (suffix if np.isfinite(value) else "") + bounds


def effects_markdown(table: pd.DataFrame) -> str:
    """A table of effects: columns that name the row, then unit, value, low, high, n, perhaps p_holm.

    A table without a column `unit` is in words already, and shown as it is.
    """
    if "unit" not in table:
        rows = [list(map(str, row)) for row in table.itertuples(index=False)]
        lines = [f"| {' | '.join(cells)} |" for cells in (list(table.columns), *rows)]
        return "\n".join([lines[0], "|---" * len(table.columns) + "|", *lines[1:]]) + "\n"
    names = list(table.columns[: list(table.columns).index("unit")])
    heads = [*names, "value [95% interval]", table.attrs.get("n", "seeds")]
    heads += ["p (Holm)"] if "p_holm" in table else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.to_dict("records"):
        never = f" ({row['censored']} never)" if row.get("censored") else ""
        cells = [str(row[name]) for name in names]
        cells += [format_interval(row["unit"], row["value"], row["low"], row["high"]), f"{row['n']}{never}"]
        if "p_holm" in row:
            cells.append("–" if np.isnan(row["p_holm"]) else f"{row['p_holm']:.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def scorecard_csv(card: pd.DataFrame) -> str:
    """Six significant digits, so that rounding in the last place of a double does not change the file."""
    return card.to_csv(index=False, float_format="%.6g")


WORDS = (
    *("claim", "statement", "short", "quantity", "verdict", "of", "config"),
    *("notebook", "measure", "unit", "cases", "note", "rule_first"),
)


def read_scorecard(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), dtype=dict.fromkeys(WORDS, str)).fillna(dict.fromkeys(WORDS, ""))


def scorecard_markdown(card: pd.DataFrame) -> str:
    """A row per claim: its main case, how many seeds (or nets, images, numbers), whether the rule came first."""
    lines = ["| | the claim | verdict | effect [95% interval] | n | rule first | |", "|---" * 7 + "|"]
    for row in card.to_dict("records"):
        tested = row["verdict"] != "not tested"
        verdict = f"**{row['verdict']}**" if tested else row["verdict"]
        value = format_interval(row["unit"], row["effect"], row["low"], row["high"]) if tested else ""
        effect = f"{row['measure']}: {value}" if tested else ""
        link = f"[notebook]({row['notebook']})" if row["notebook"] else ""
        n = f"{row['n']} {row['of']}" if tested else ""
        cells = (row["claim"], row["statement"], verdict, effect, n, row["rule_first"], link)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def scorecard_short(card: pd.DataFrame) -> str:
    """Four columns: the claim in short, its verdict, one effect."""
    lines = ["| | of BN it is claimed | verdict | effect [95%] |", "|---" * 4 + "|"]
    for row in card.to_dict("records"):
        value = format_interval(row["unit"], row["effect"], row["low"], row["high"])
        effect = f"{row['quantity']} {value}" if row["verdict"] != "not tested" else ""
        claim = f"[{row['claim']}]({row['notebook']})" if row["notebook"] else row["claim"]
        decided = row["verdict"] in ("reproduced", "not reproduced", "not tested")
        verdict = row["verdict"] if decided else f"{row['verdict']}: {row['cases']}"
        lines.append(f"| {claim} | {row['short']} | {verdict} | {effect} |")
    return "\n".join(lines) + "\n"


def with_scorecard(readme: str, card: pd.DataFrame) -> str:
    """The README with the block between its markers replaced. Raises ValueError where it has no markers."""
    if END not in readme.partition(BEGIN)[2]:
        raise ValueError(f"README.md has no block {BEGIN} ... {END}")
    return with_block(readme, "scorecard", scorecard_short(card))


def with_block(text: str, name: str, content: str) -> str:
    """The text with what stands between <!-- name --> and <!-- /name --> replaced; as it is where they are not."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    return f"{before}{begin}\n{content}{end}{after}" if found else text


def origin(results: Path, *experiments: str) -> str:
    """Where a notebook's tables come from, a line each: runs, seeds, experiments, commit, hardware, dates.

    A command of one run would give a part of the table again; the experiments give all, the file the rest.
    """
    lines = []
    for name in experiments:
        runs = json.loads((results / f"{name}.json").read_text())
        last = [run["provenance"] for run in runs]
        facts = [fact for each in last for fact in (*each.get("earlier_sessions", ()), each)]
        seeds = spans({seed for run in runs for seed in run["seeds"]})
        trained = ", then ".join(dict.fromkeys(run["experiment"] for run in runs))
        told = {
            key: list(dict.fromkeys(str(fact.get(key)) for fact in facts)) for key in ("commit", "hardware")
        }
        days = sorted({fact["date"][:10] for fact in facts})
        commits = ", ".join(commit[:7] for commit in told["commit"])
        count = f"{len(runs)} run{'s' * (len(runs) > 1)}, seeds {seeds}"
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        lines.append(
            f"{name}: {count}; python scripts/train.py -m experiment={trained} (each run's own command:"
            f" results/{name}.json); commit {commits}; {', '.join(told['hardware'])}; {when}"
        )
    return "\n".join(lines)


def spans(seeds: Iterable[int]) -> str:
    """In words: "0 to 5, 10, 20 to 25"."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
