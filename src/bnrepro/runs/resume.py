"""What a run's folder holds already: which seeds are left, who stands at the same step, what is damaged."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, NamedTuple
from zipfile import ZipFile

import torch
import yaml

from bnrepro import machine
from bnrepro.config import Config, ConfigError
from bnrepro.config.address import digest, identity
from bnrepro.config.refusal import one_line
from bnrepro.runs.folder import Damaged, RunFolder

CHECKPOINT_VERSION = 3


class Job(NamedTuple):
    """Seeds of one run that stand at the same step: -1 before the first measurement."""

    cfg: Config
    seeds: list[int]
    step: int


def jobs_of(cfg: Config) -> list[Job]:
    """What is left to train of a run: its unfinished seeds, by the step at which they stand."""
    try:
        finished, saved = RunFolder.of(cfg).finished_seeds(), resumable(cfg)["seeds"]
    except Damaged:  # it starts over: see `mend`
        finished, saved = [], {}
    steps: dict[int, list[int]] = {}
    for seed in cfg.seeds:
        if seed not in finished:
            steps.setdefault(saved[seed]["step"] if seed in saved else -1, []).append(seed)
    return [Job(cfg, seeds, step) for step, seeds in sorted(steps.items(), reverse=True)]


def cohorts(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that stand at the same step, those that are farthest first."""
    steps = sorted({job.step for job in jobs}, reverse=True)
    return [[job for job in jobs if job.step == step] for step in steps]


def refuse_old(cfg: Config) -> None:
    """Raises ConfigError where a version before seeds lived inside runs has finished this very run.

    Its folder was named after its number of seeds as well: training anew beside it would be silent.
    """
    folder = RunFolder.of(cfg)
    for config in sorted(folder.path.parent.glob("*-n*-*/config.yaml")):
        old = RunFolder(config.parent)
        try:
            written, finished = yaml.safe_load(config.read_text()), old.status().get("state") == "finished"
            same = finished and "seeds" not in old.status() and _as_written(cfg, written) == identity(cfg)
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, ConfigError):
            continue
        if same:
            raise ConfigError(
                f"{old} holds this run, finished by a version whose folders cannot be continued: collect it as "
                "it is (scripts/collect.py --all), or set output= to train anew"
            )


def _as_written(cfg: Config, written: dict[str, Any]) -> dict[str, Any]:
    """The identity of the run that an old config.yaml describes; settings that are no more are left out."""
    parts = {}
    for part in ("data", "model", "optim", "train", "eval"):
        mine = getattr(cfg, part)
        known = {k: v for k, v in written[part].items() if hasattr(mine, k)}
        parts[part] = replace(mine, **known)
    return identity(replace(cfg, regime=written["regime"], **parts))


def resumable(cfg: Config) -> dict[str, Any]:
    """The checkpoint of a run, with no seeds where there is none.

    Raises Damaged if it cannot be read, or if the table lacks rows that were in it when it was written;
    ConfigError if it is of another run or version, or not readable for this user.
    """
    folder = RunFolder.of(cfg)
    if not folder.checkpoint.exists():
        folder.tallies({})  # a table that cannot be read cannot be written to
        return {"version": CHECKPOINT_VERSION, "seeds": {}, "wall_s": 0.0}
    found = read_checkpoint(folder)
    if not found["run"].endswith(digest(cfg)):
        raise ConfigError(f"{folder.checkpoint} is of another run, {found['run']}; delete it to train anew")
    here = folder.tallies({seed: saved["step"] for seed, saved in found["seeds"].items()})
    for seed, saved in found["seeds"].items():
        if here[seed] != tuple(saved["table"]):
            raise Damaged(
                f"{folder.table} has {here[seed].rows:,} rows of seed {seed} up to step {saved['step']:,}, "
                f"and not those {saved['table'][0]:,} that the run wrote"
            )
    return found


def read_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """What checkpoint.pt holds. Raises Damaged if it cannot be read, ConfigError if it is of another version."""
    path = folder.checkpoint
    try:
        with ZipFile(path) as archive:  # torch itself looks at no checksum
            member = archive.testzip()
        found: Any = None if member else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; is it another user's?") from error
    except MemoryError:
        raise
    except Exception as error:  # what torch makes of a damaged file has many names
        if stop := machine.stop_asked():
            raise stop from error
        raise Damaged(f"{path} cannot be read ({one_line(error)[:80]})") from error
    if member:
        raise Damaged(f"{path} is damaged (the checksum of {member} is another)")
    version = found.get("version") if isinstance(found, dict) else None
    if version != CHECKPOINT_VERSION:
        raise ConfigError(f"{path} is of another version of bnrepro; delete it to train anew")
    return found


def mend(cfg: Config) -> None:
    """Where a run's files are damaged, put them aside and say so: the run starts over."""
    folder = RunFolder.of(cfg)
    try:
        resumable(cfg)
    except Damaged as damage:
        # In this order: were the files gone first, a crash would leave seeds that say "finished" and have no rows.
        folder.write_status("damaged", [], folder.status().get("provenance", {}))
        kept = " and ".join(folder.set_aside())
        print(f"{damage}; kept as {kept}, and the run starts over", file=sys.stderr)
