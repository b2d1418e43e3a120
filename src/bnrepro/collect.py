"""Finished runs on disk -> one tidy frame with its provenance: the only way from outputs/ into results/."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bnrepro import files
from bnrepro.config import HOW

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
# (pandas' hints give every selection a union of table, column and scalar)

METRICS = {
    r"train/loss": "cross-entropy, mean of the training steps since the previous row",
    r"(test|val)/loss": "cross-entropy over the split (BN: moving averages)",
    r"(test|val)/accuracy": "share of the split classified correctly, 0 to 1 (BN: moving averages)",
    r"(test|val)/top5": "share whose class is among the five most likely (BN: moving averages)",
    r"(test|val)/(loss|accuracy|top5)_population": "BN by population statistics (Algorithm 2)",
    r"(test|val)/(loss|accuracy|top5)_batch": "BN by the statistics of test batches of the training size",
    r"train/(loss|accuracy|top5)_eval": "10,000 training images (or all, if fewer), in evaluation mode",
    r"noise/(mu|var)/m\d+": "variance of one unit's batch mean / sigma^2, variance / sigma^4",
    r"noise/logit/m\d+": "variance of a fixed example's logits over its mini-batch companions",
    r"noise/kurtosis": "of that unit over the training set",
    r"probe/\w+/(typical|all)/p(15|50|85)": "percentile of a nonlinearity's input; one unit, or all",
    r"correct5?/(single|10crop)": "of one image: 1 if right (top-1, top-5), else 0",
    r"ics/(hidden\d+|classifier)/(l2|cosine)": "a layer's gradient before and after its predecessors step",
    r"ics_next/(hidden\d+|classifier)/(l2|cosine)": "the same, gradients from the next mini-batch",
    r"landscape/(loss|gradient_norm)": "of a fixed mini-batch; gradient of all parameters",
    r"landscape/loss_(low|high)": "lowest, highest loss along the gradient, steps of 1/4 to 4 times the rate",
    r"landscape/(gradient_change|smoothness)": "largest change of the gradient there; the same / distance",
    r"gradient/(hidden\d+|classifier)/norm": "l2 norm of the gradient of a layer's weights",
    r"jacobian(_linear)?/hidden\d+/(median|log_spread|from_one)": "singular values of a layer's Jacobian",
    r"units/hidden\d+/(saturated|dead)": "share of (example, unit) that is flat; of units flat for all",
    r"diverged_at": "first step whose loss was not finite; absent where it always was",
}
KEYS = ["experiment", "variant", "seed", "step", "name", "value"]
ALWAYS = [
    "data.batch_size",
    "data.holdout",
    "data.name",
    "data.num_classes",
    "data.size",
    "model.depth",
    "model.init_std",
    "model.multiplier",
    "optim.lr",
    "regime",
    "train.steps",
]
_LEFT_OUT = tuple(f"{name}." for name in (*HOW, "hydra"))


class MissingData(ValueError):
    """The run, file or rows that a table, figure or claim needs are not there (yet)."""


class Collected(NamedTuple):
    frame: pd.DataFrame
    provenance: list[dict[str, Any]]  # one entry per finished run: run, config, provenance
    unfinished: list[str]  # "fig1_mnist/bn/lr0.1-1a2b (interrupted)": skipped


def collect(*runs_dirs: Path) -> Collected:
    """All finished runs below the folders `runs_dirs` (outputs/<experiment>) as one tidy frame.

    Raises MissingData if no run is finished, and ValueError naming the place for an undeclared name, an
    unreadable table, or two runs with the same hyperparameters and seed.
    """
    tables, provenance, unfinished = [], [], []
    for config_file in sorted(f for folder in runs_dirs for f in Path(folder).glob("**/config.yaml")):
        run = config_file.parent
        where = "/".join(run.parts[-3:])  # <experiment>/<variant>/<key>
        state, details = _read_status(run / "run.json")
        if state != "finished":
            unfinished.append(f"{where} ({state})")
            continue
        config = _read_config(config_file)
        settings = {key: value for key, value in config.items() if _is_hyperparameter(key)}
        identity = {"experiment": config["experiment"], "variant": config["variant"]}
        tables.append(_read_table(run / "table.csv").assign(**identity, **settings, _run=where))
        seeds = sorted(map(int, tables[-1]["seed"].unique()))
        provenance.append(
            {"run": where, **identity, "seeds": seeds, "config": settings, "provenance": details}
        )
    if not tables:
        skipped = f"; not finished: {', '.join(unfinished)}" if unfinished else ""
        raise MissingData(f"no finished run in {' or '.join(map(str, runs_dirs))}{skipped}")
    frame = pd.concat(tables, ignore_index=True)
    settings = sorted(set(frame.columns) - {*KEYS, "_run"})
    twice = frame.duplicated([*KEYS[:-1], *settings], keep=False)
    if twice.any():
        runs = ", ".join(frame.loc[twice, "_run"].unique())
        raise ValueError(f"the same hyperparameters, seed and step twice, in {runs}")
    columns = [c for c in settings if c in ALWAYS or frame[c].nunique(dropna=False) > 1]
    return Collected(frame[KEYS + columns], provenance, unfinished)


def _read_status(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        status = json.loads(path.read_text())
        return status["state"], status.get("provenance", {})
    except (OSError, ValueError, KeyError):
        return "no readable run.json", {}


def _read_config(path: Path) -> dict[str, Any]:
    """The nested YAML file as {'optim.lr': 0.1, ...}; a list becomes its JSON text."""
    import yaml  # only collecting needs it; tables, figures and claims run without

    flat = pd.json_normalize(yaml.safe_load(path.read_text()), sep=".").to_dict("records")[0]
    return {str(k): json.dumps(v) if isinstance(v, list | dict) else v for k, v in flat.items()}


def _read_table(path: Path) -> pd.DataFrame:
    types: Any = {"seed": "int64", "step": "int64", "name": "str", "value": "str"}
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table ({str(error).strip()})") from None
    if list(table.columns) != list(types):
        raise ValueError(f"{path}: the header is not {','.join(types)}")
    try:  # Python's own float: exact for what repr() wrote, which pandas' parser does not promise
        table["value"] = [float(value) for value in table["value"]]
    except ValueError as error:
        raise ValueError(f"{path}: not a readable table ({error})") from None
    known = [re.compile(pattern) for pattern in METRICS]
    unknown = [str(n) for n in table["name"].unique() if not any(p.fullmatch(str(n)) for p in known)]
    if unknown:
        raise ValueError(f"{path}: not declared in bnrepro.collect.METRICS: {', '.join(unknown)}")
    return table


def _is_hyperparameter(key: str) -> bool:
    """Of a flat configuration: neither how the run was carried out, nor what has a column of its own."""
    return key not in ("experiment", "variant", "seeds") and not f"{key}.".startswith(_LEFT_OUT)


def save(collected: Collected, stem: Path) -> list[Path]:
    """Writes <stem>.parquet and <stem>.json (provenance), each whole or not at all; returns their paths."""
    table, notes = stem.with_name(stem.name + ".parquet"), stem.with_name(stem.name + ".json")
    with files.replacing(table) as file:
        collected.frame.to_parquet(file, index=False, compression="zstd")
    files.write(notes, json.dumps(collected.provenance, indent=1) + "\n")
    return [table, notes]
