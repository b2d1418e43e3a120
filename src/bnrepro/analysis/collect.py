"""Finished runs on disk -> one tidy frame with its provenance: the only way from outputs/ into results/."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bnrepro import files
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import defaults, is_how
from bnrepro.measure.metrics import Undeclared, declared
from bnrepro.runs.folder import Damaged, RunFolder

KEYS = ["experiment", "variant", "seed", "step", "name", "value"]


class MissingData(ValueError):
    """The run, file or rows that a table, figure or claim needs are not there (yet)."""


class Collected(NamedTuple):
    frame: pd.DataFrame
    provenance: list[dict[str, Any]]  # one entry per finished run: run, config, provenance
    unfinished: list[str]  # "fig1_mnist/bn/lr0.1-1a2b (interrupted)", and which of its seeds are taken


def collect(*runs_dirs: Path) -> Collected:
    """All finished runs below the folders `runs_dirs` (outputs/<experiment>) as one tidy frame.

    Raises MissingData if no run is finished, and ValueError naming the place for an undeclared name, an
    unreadable table, one that is not as its run left it, or two runs with the same hyperparameters and seed.
    """
    tables, provenance, unfinished = [], [], []
    for run in (run for folder in runs_dirs for run in RunFolder.below(folder)):
        state, finished, details = _status(run)
        if state != "finished":
            taken = f"; its finished seeds are taken: {', '.join(map(str, finished))}" if finished else ""
            unfinished.append(f"{run.name} ({state}{taken})")
            if not finished:
                continue
        config = _read_config(run.config)
        settings = {key: value for key, value in (defaults() | config).items() if _is_hyperparameter(key)}
        names = {"experiment": config["experiment"], "variant": config["variant"]}
        table = _read_table(run.table)
        _check_whole(run)
        if finished is not None:  # seeds that are still in training stay out
            table = table[table["seed"].isin(finished)]
        tables.append(table.assign(**names, **settings, _run=run.name))
        seeds = sorted(map(int, table["seed"].unique()))
        provenance.append(
            {"run": run.name, **names, "seeds": seeds, "config": settings, "provenance": details}
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
    return Collected(frame[KEYS + settings], provenance, unfinished)


def _status(run: RunFolder) -> tuple[str, list[int] | None, dict[str, Any]]:
    """State, finished seeds (None: the folder does not tell seeds apart), provenance."""
    try:
        status = run.status()
        return status["state"], status.get("seeds"), status.get("provenance", {})
    except (OSError, ValueError, KeyError):
        return "no readable run.json", None, {}


def _read_config(path: Path) -> dict[str, Any]:
    """The nested YAML file as {'optim.lr': 0.1, ...}; a list becomes its JSON text."""
    import yaml  # only collecting needs it; tables, figures and claims run without

    try:
        flat = pd.json_normalize(yaml.safe_load(path.read_text()), sep=".").to_dict("records")[0]
    except (OSError, ValueError, NotImplementedError, IndexError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no readable configuration ({one_line(error)})") from None
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
    for name in table["name"].unique():
        try:
            declared(str(name))
        except Undeclared as error:
            raise ValueError(f"{path}: {error}") from None
    return table


def _check_whole(run: RunFolder) -> None:
    try:
        run.check_table()
    except Damaged as damage:
        hint = f"remove the run (scripts/runs.py rm {run}) and train it again, or put its table back"
        raise ValueError(f"{damage}; {hint}") from None


def _is_hyperparameter(key: str) -> bool:
    """Of a flat configuration: neither how the run was carried out, nor what has a column of its own."""
    return key not in ("experiment", "variant", "seeds") and not is_how(key) and not key.startswith("hydra")


def added(found: Collected, stem: Path) -> Collected:
    """`found`, and of <stem>.parquet and .json what it does not have, by experiment, variant, settings and seed.

    So an experiment of several machines or days is collected seed by seed. Raises MissingData if the files are not
    there, ValueError if their runs are described by other settings. What an earlier version did not have yet (of data,
    optim, train and eval) has its default there.
    """
    table, notes = stem.with_name(stem.name + ".parquet"), stem.with_name(stem.name + ".json")
    if not (table.exists() and notes.exists()):
        raise MissingData(f"{table} and {notes.name} are not both there: nothing to add to")
    before = Collected(pd.read_parquet(table), json.loads(notes.read_text()), [])
    columns = sorted({*before.frame.columns, *found.frame.columns} - {*KEYS})
    before, found = (_with_settings(each, columns, table) for each in (before, found))
    frame, keys = before.frame, [*KEYS[:3], *columns]
    anew = found.frame[keys].drop_duplicates()
    where = frame[keys].merge(anew, how="left", on=keys, indicator="found")["found"]
    again = {(identity(entry), seed) for entry in found.provenance for seed in entry["seeds"]}
    earlier = []
    for entry in before.provenance:
        seeds = [seed for seed in entry["seeds"] if (identity(entry), seed) not in again]
        earlier += [entry | {"seeds": seeds}] if seeds else []
    frames = [frame[(where == "left_only").to_numpy()], found.frame]
    return found._replace(
        frame=pd.concat(frames, ignore_index=True), provenance=[*earlier, *found.provenance]
    )


def left_out(found: Collected, stem: Path) -> list[str]:
    """The runs of <stem>.json of which `found` lacks a seed, by name: what saving `found` there would lose."""
    notes = stem.with_name(stem.name + ".json")
    if not notes.exists():
        return []

    columns = {*defaults(), *(key for entry in found.provenance for key in entry["config"])}

    def known(entries: list[dict[str, Any]]) -> dict[str, set[int]]:
        seeds: dict[str, set[int]] = {}
        for entry in entries:
            config = {key: value for key, value in entry["config"].items() if key in columns}
            whole = identity(entry | {"config": defaults() | config})
            seeds.setdefault(whole, set()).update(entry["seeds"])
        return seeds

    now = known(found.provenance)
    try:
        before = json.loads(notes.read_text())
        return sorted({run["run"] for run in before if set(run["seeds"]) - now.get(*known([run]), set())})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{notes}: not the provenance of a table ({error}); move it away") from None


def _with_settings(collected: Collected, columns: list[str], table: Path) -> Collected:
    """With these columns of settings. What an earlier version lacks has its default; ValueError if it has none."""
    later = {column: value for column, value in defaults().items() if column in columns}
    if unknown := sorted(set(columns) - set(collected.frame.columns) - set(later)):
        raise ValueError(
            f"{table}: other columns of settings ({', '.join(unknown)}), so that nothing can be added"
        )
    frame = collected.frame.reindex(columns=KEYS + columns)
    gaps = {column: value for column, value in later.items() if frame[column].isna().any()}
    frame = frame.assign(
        **{column: frame[column].where(frame[column].notna(), value) for column, value in gaps.items()}
    )
    provenance = [entry | {"config": later | entry["config"]} for entry in collected.provenance]
    return collected._replace(frame=frame.infer_objects(), provenance=provenance)


def identity(entry: dict[str, Any]) -> str:
    """What tells a run of the provenance from others, whatever its seeds: experiment, variant, settings."""
    return json.dumps([entry["experiment"], entry["variant"], entry["config"]], sort_keys=True)


def save(collected: Collected, stem: Path) -> list[Path]:
    """Writes <stem>.parquet and <stem>.json (provenance), each whole or not at all; returns their paths."""
    table, notes = stem.with_name(stem.name + ".parquet"), stem.with_name(stem.name + ".json")
    with files.replacing(table) as file:
        collected.frame.to_parquet(file, index=False, compression="zstd")
    files.write(notes, json.dumps(collected.provenance, indent=1) + "\n")
    return [table, notes]
