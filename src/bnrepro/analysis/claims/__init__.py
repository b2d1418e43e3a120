"""The scorecard: each claim of the paper judged by its rule on the collected results.

A rule (rule.py) is a function that measures cases, each with a 95% interval and a smallest effect of interest.
Its error rates on simulated data, and when it was written, stand in results/rules.csv; the scorecard says whether
a rule is older than the runs that it judges.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.claims import exact, figure1, imagenet, jacobian, noise, regularization, tolerance
from bnrepro.analysis.claims.rule import Case, Rule, Verdict
from bnrepro.analysis.frame import MissingData

RULES: dict[str, Rule] = {
    **figure1.RULES,
    **exact.RULES,
    **tolerance.RULES,
    **noise.RULES,
    **regularization.RULES,
    **jacobian.RULES,
    **imagenet.RULES,
}
# Claims judged on several experiments, each of which has a rule, and a date, of its own.
PARTS = {"C7": ("C7", "C7-Inception")}
STATEMENTS = {
    "C1": "BN is more accurate than the baseline at matched steps, throughout training (Fig. 1a)",
    "C2": "BN reaches the baseline's best accuracy in fewer steps (Fig. 1a)",
    "C3": "the input distribution of a last-layer sigmoid is steadier with BN (Fig. 1b, c)",
    "C4": "BN(Wu) = BN((aW)u), with the gradients that follow (3.3)",
    "C5": "BN can represent the identity (3)",
    "C6": "inference is deterministic, one affine map, independent of the batch (3.1)",
    "C7": "the baseline diverges at 5 times its learning rate, BN does not (4.2.1)",
    "C8": "BN-Baseline needs fewer than half the steps (4.2.2)",
    "C9": "BN-x5 needs about 1/14 of the steps (4.2.2)",
    "C10": "BN-x30 starts slower than x5 and ends higher (4.2.2)",
    "C11": "with sigmoids BN trains and the baseline stays at chance (4.2.2)",
    "C12": "with BN, dropout can be removed without loss (3.4, 4.2.1)",
    "C13": "L2 can shrink, LRN can go, distortions can shrink, shuffling helps (4.2.1)",
    "C14": "an ensemble beats its best member (4.2.3)",
    "C15": "layer Jacobians have singular values nearer 1 with BN (3.3)",
    "C16": "BN cares less about initialization (abstract)",
    "C17": "a bigger mini-batch means less noise in its statistics, so less regularization (elsewhere)",
    "C18": "BN and dropout together regularize more than either (elsewhere)",
}
IN_SHORT = {  # for a page with little room: the claim, and what its effect is
    "C1": ("more accurate at every stage of training", "lead"),
    "C2": ("reaches the baseline's best in fewer steps", "steps, BN / baseline"),
    "C3": ("inputs to a sigmoid are steadier", "movement, BN / baseline"),
    "C4": ("the weights' scale does not matter", "largest error"),
    "C5": ("can represent the identity", "largest error"),
    "C6": ("inference is one affine map", "largest error"),
    "C7": ("at 5 times the rate only nets without BN fail", "sigmoid nets failing without BN"),
    "C8": ("BN-Baseline takes half of Inception's steps", "steps, BN-Baseline / Inception"),
    "C9": ("BN-x5 takes 1/14 of the steps", "steps, BN-x5 / Inception"),
    "C10": ("BN-x30 is slower than x5, and better", "highest accuracy, x30 - x5"),
    "C11": ("Inception with sigmoids trains, with BN only", "way from chance with BN"),
    "C12": ("dropout can go", "sigmoids, 50,000 images: cost of removal"),
    "C13": ("less L2, no LRN, less distortion: no harm", "less L2"),
    "C14": ("an ensemble beats its best member", "top-1 error, ensemble - best"),
    "C15": ("layer Jacobians are nearer 1", "ReLU, 3 layers: decades from 1, BN - baseline"),
    "C16": ("initial weights matter less", "range over stds, baseline - BN"),
    "C17": ("larger mini-batches regularize less (elsewhere)", "gap per doubling"),
    "C18": ("BN and dropout regularize together (elsewhere)", "gap, both - BN alone"),
}
RULES_FILE = "rules.csv"


def complete(rules: Iterable[str], *words: Iterable[str]) -> None:
    """Every claim has a rule, a statement and a short form. Raises ValueError for one that lacks some of them."""
    parts = {part for names in PARTS.values() for part in names} - set(PARTS)
    claims = [set(rules) - parts, *map(set, words)]
    if lacking := sorted(set().union(*claims) - set.intersection(*claims)):
        names = "RULES, STATEMENTS and IN_SHORT"
        raise ValueError(f"claims/__init__.py: {', '.join(lacking)} must stand in {names}, each of them")


complete(RULES, STATEMENTS, IN_SHORT)


def scorecard(results_dir: Path | str, *only: str) -> pd.DataFrame:
    """One row per claim, from what is in results/; where an input is missing, "not tested" and why.

    only: the claims to judge, in this order, as in scorecard(folder, "C8", "C9"); none given: all of them. Raises
    KeyError for what is no claim.
    rule_first: whether the rule is older than the first run that it judges; "" where nothing was run.
    """
    folder = Path(results_dir)
    statements = {claim: STATEMENTS[claim] for claim in only or STATEMENTS}
    rules = {claim: whole(claim) for claim in statements}
    frames, dates = load(folder, rules.values()), _read_rules(folder)
    rows = []
    for claim, statement in statements.items():
        try:
            verdict = rules[claim].judge(frames)
        except MissingData as reason:
            verdict = Verdict("not tested", note=str(reason))
        older = [_older(dates.get(part, {}), RULES[part]) for part in PARTS.get(claim, (claim,))]
        first = "no" if "no" in older else max(older)
        short, quantity = IN_SHORT[claim]
        words = {"claim": claim, "statement": statement, "short": short, "quantity": quantity}
        rows.append({**words, **asdict(verdict), "rule_first": first})
    return pd.DataFrame(rows)


def whole(claim: str) -> Rule:
    """The claim's rule; of several the cases together: those of every experiment that has been run."""
    rules = [RULES[part] for part in PARTS.get(claim, (claim,))]
    if len(rules) == 1:
        return rules[0]

    def cases(frames: dict[str, pd.DataFrame]) -> list[Case]:
        found, missing = [], []
        for rule in rules:
            try:
                found += rule.cases(frames)
            except MissingData as reason:
                missing.append(str(reason))
        if not found:
            raise MissingData("; ".join(missing))
        if missing:
            found[-1] = found[-1]._replace(note=f"{found[-1].note} (not judged: {'; '.join(missing)})")
        return found

    experiments = tuple(name for rule in rules for name in rule.experiments)
    return Rule(cases, (), experiments, rules[0].notebook)


def _older(known: dict[str, str], rule: Rule) -> str:
    """Whether a rule is older than the first run that it judges: yes, no; "" where nothing was run."""
    if not (known.get("committed") and known.get("data_from") and known["rule"] == rule.fingerprint()):
        return ""
    return "yes" if known["committed"] < known["data_from"] else "no"


def load(folder: Path, rules: Iterable[Rule]) -> dict[str, pd.DataFrame]:
    """The frames that these rules judge, as far as they are there."""
    names = {name for rule in rules for name in rule.experiments}
    files = {
        name: folder / (f"{name}.csv" if name == "exact" else f"{name}.parquet") for name in sorted(names)
    }
    return {
        name: pd.read_csv(path) if name == "exact" else tidy.load(path)
        for name, path in files.items()
        if path.exists()
    }


def rules_table(results_dir: Path | str, now: str) -> pd.DataFrame:
    """results/rules.csv: each rule's error rates on simulated data, its hash, its date, that of its first data.

    A rule whose hash is the one in the file keeps its date; a changed one is of `now` (ISO, UTC).
    """
    folder = Path(results_dir)
    before, rows = _read_rules(folder), []
    for claim, rule in RULES.items():
        if not rule.expected:  # identities: nothing is sampled
            continue
        known, mine = before.get(claim, {}), rule.fingerprint()
        committed = known["committed"] if known.get("rule") == mine else now
        row: dict[str, object] = {"claim": claim, "rule": mine} | rule.error_rates()
        row["assumes"] = ", ".join(map(str, rule.expected))
        rows.append(row | {"committed": committed, "data_from": data_from(folder, rule.experiments)})
    return pd.DataFrame(rows).sort_values("claim", key=_order, ignore_index=True)


def _order(ids: pd.Series) -> pd.Series:
    """C2 before C10, and C7 before C7-Inception."""
    parts = ids.str.extract(r"C(\d+)(.*)")
    return parts[0].str.zfill(3) + parts[1]


def data_from(folder: Path, experiments: tuple[str, ...]) -> str:
    """The date of the first run behind these files of results/ (ISO, UTC); "" where there is none."""
    dates = []
    for name in experiments:
        if (path := folder / f"{name}.json").exists():
            for run in json.loads(path.read_text()):
                facts = run["provenance"]
                dates += [
                    each["date"] for each in (facts, *facts.get("earlier_sessions", [])) if "date" in each
                ]
    return min(dates, default="")


def _read_rules(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / RULES_FILE
    if not path.exists():
        return {}
    return pd.read_csv(path, dtype=str).fillna("").set_index("claim").to_dict("index")
