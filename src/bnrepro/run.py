"""Runs from configuration to finished folder: their addresses, locks, states; and which train together."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from bnrepro.address import address, packable
from bnrepro.checkpoint import step_of
from bnrepro.config import Config, ConfigError
from bnrepro.data import DataError, Dataset, load
from bnrepro.drives import build_replicas, device_of, name_of
from bnrepro.files import write
from bnrepro.parallel import DataParallel, dismiss, join, leads, processes
from bnrepro.provenance import provenance
from bnrepro.record import RunBusy, RunLock, open_recorder, write_status
from bnrepro.train import Progress, fit

# What the user can mend: reported in one line, without a traceback.
REFUSALS = (ConfigError, DataError, RunBusy)
PACK = {"mlp": 256, "inception": 8}  # replicas that train together at most: 1.5 MB of state each, or 90


def folder_of(cfg: Config) -> Path:
    return Path(cfg.output) / address(cfg)


def run(cfg: Config, progress: Progress) -> str:
    """Train cfg in its own folder: "finished", or "skipped" if it was so already. See `run_together`."""
    return run_together([cfg], progress)[0]


def run_together(cfgs: list[Config], progress: Progress) -> list[str]:
    """Train runs of equal `config.packable` side by side, each in its own folder, and return their states.

    Raises ConfigError, DataError or RunBusy before anything on disk changes. Whatever else goes wrong is
    recorded in the folders (run.json, traceback.txt) and raised again.
    """
    states = {id(cfg): "skipped" for cfg in cfgs}
    device = device_of(cfgs[0])
    if processes() > 1:
        join(device)
        if not leads():
            with closing(DataParallel(cfgs, load(cfgs[0].data, cfgs[0].model), device)) as replicas:
                replicas.follow()
            return list(states.values())
    with ExitStack() as locks:
        todo, data = [], None
        try:
            todo, data = _claimed(cfgs, locks)
        finally:
            if not todo and processes() > 1:  # nothing to train, or refused: the others wait to follow
                dismiss(device)
        if todo and data is not None:
            _train(todo, data, device, progress)
            states |= {id(cfg): "finished" for cfg in todo}
    return [states[id(cfg)] for cfg in cfgs]


def _claimed(cfgs: list[Config], locks: ExitStack) -> tuple[list[Config], Dataset | None]:
    """The runs that are not finished, locked until `locks` is left, and their data."""
    todo, data = [], None
    for cfg in cfgs:
        folder = folder_of(cfg)
        if state_of(folder) != "finished":
            data = data or load(cfg.data, cfg.model)
            _make(folder)
            locks.enter_context(RunLock(folder))
            if state_of(folder) != "finished":  # by another process, while this one read the data
                todo.append(cfg)
    return todo, data


def _train(cfgs: list[Config], data: Dataset, device: torch.device, progress: Progress) -> None:
    folders = [folder_of(cfg) for cfg in cfgs]
    command = ["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    facts = [provenance(command, name_of(device)) for _ in cfgs]
    for cfg, folder, each in zip(cfgs, folders, facts, strict=True):
        if earlier := _status(folder).get("provenance"):
            kept = {key: earlier.get(key) for key in ("commit", "dirty", "date", "hardware")}
            each["earlier_sessions"] = [*earlier.get("earlier_sessions", []), kept]
        each["trained_with"] = len(cfgs) - 1  # other runs beside it: they share wall time and rates
        write(folder / "config.yaml", yaml.safe_dump(asdict(cfg), sort_keys=False))
        write_status(folder, "running", each)
        (folder / "traceback.txt").unlink(missing_ok=True)
    state = "failed"

    def conclude() -> None:
        for folder, each in zip(folders, facts, strict=True):
            write_status(folder, state, each)

    with ExitStack() as cleanup:
        cleanup.callback(conclude)
        try:
            replicas = build_replicas(cfgs, data)  # forks; so before a recorder starts a thread
            cleanup.callback(replicas.close)
            recorders = []
            for cfg, folder in zip(cfgs, folders, strict=True):
                recorder = open_recorder(folder, asdict(cfg), cfg.seeds)
                cleanup.callback(lambda recorder=recorder: recorder.close(state))
                recorders.append(recorder)
            measured = fit(replicas, recorders, folders, progress)
            for each in facts:
                each |= measured
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except Exception:
            for folder in folders:
                (folder / "traceback.txt").write_text(traceback.format_exc())
            raise


def packs(cfgs: list[Config]) -> list[list[Config]]:
    """Runs that train together: of equal shapes and steps, resuming at the same step, PACK replicas at most.

    Runs that a W&B mirror shows train alone: it keeps a live run for every seed. In the order given.
    """
    groups: dict[Any, list[list[Config]]] = {}
    for cfg in cfgs:
        resumes_at = step_of(folder_of(cfg) / "checkpoint.pt")
        alone = address(cfg) if cfg.record.wandb != "off" else ""
        key = (packable(cfg), state_of(folder_of(cfg)) == "finished", resumes_at, alone)
        piles = groups.setdefault(key, [[]])
        if sum(len(each.seeds) for each in [*piles[-1], cfg]) > PACK[cfg.model.name] and piles[-1]:
            piles.append([])
        piles[-1].append(cfg)
    return [pile for piles in groups.values() for pile in piles]


def check(cfg: Config) -> None:
    """Raise what `run` would refuse, before a sweep starts; writes nothing (but may download MNIST)."""
    if state_of(folder_of(cfg)) != "finished":
        device_of(cfg)
        load(cfg.data, cfg.model)
        place = next(p for p in (folder_of(cfg), *folder_of(cfg).parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise ConfigError(f"cannot write into {place}; set output= to a folder you can write")


def state_of(folder: Path) -> str:
    """ "running", "finished", "interrupted" or "failed"; "not started" where no run has been."""
    return _status(folder).get("state", "not started")


def _status(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it to resume the run") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot make {folder}: {reason}; set output= to a folder you can write") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write into {folder}; set output= to a folder you can write")
