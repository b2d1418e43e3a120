"""One run from configuration to finished folder: its address, its lock, its status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bnrepro.config import Config, ConfigError, address
from bnrepro.data import DataError, load
from bnrepro.drives import build_replicas, device_of, name_of
from bnrepro.provenance import provenance
from bnrepro.record import RunBusy, RunLock, open_recorder, write_atomically, write_status
from bnrepro.train import Progress, fit

# What the user can mend: reported in one line, without a traceback.
REFUSALS = (ConfigError, DataError, RunBusy)


def folder_of(cfg: Config) -> Path:
    return Path(cfg.output) / address(cfg)


def run(cfg: Config, progress: Progress) -> str:
    """Train cfg in its own folder: "finished", or "skipped" if it was finished already.

    Raises ConfigError, DataError or RunBusy before anything on disk changes. Whatever else goes wrong is
    recorded in the folder (run.json, traceback.txt) and raised again.
    """
    folder = folder_of(cfg)
    if state_of(folder) == "finished":
        return "skipped"
    device = device_of(cfg)
    data = load(cfg.data)
    _make(folder)
    with RunLock(folder):
        if state_of(folder) == "finished":  # by another process, while this one read the data
            return "skipped"
        facts = provenance(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]], name_of(device))
        if earlier := _status(folder).get("provenance"):
            kept = {key: earlier.get(key) for key in ("commit", "dirty", "date", "hardware")}
            facts["earlier_sessions"] = [*earlier.get("earlier_sessions", []), kept]
        write_atomically(folder / "config.yaml", yaml.safe_dump(asdict(cfg), sort_keys=False).encode())
        write_status(folder, "running", facts)
        (folder / "traceback.txt").unlink(missing_ok=True)
        state = "failed"
        with ExitStack() as cleanup:
            cleanup.callback(lambda: write_status(folder, state, facts))
            try:
                replicas = build_replicas(cfg, data)  # forks; so before the recorder starts a thread
                cleanup.callback(replicas.close)
                recorder = open_recorder(folder, asdict(cfg), cfg.seeds)
                cleanup.callback(lambda: recorder.close(state))
                facts |= fit(cfg, replicas, recorder, folder, progress)
                state = "finished"
            except KeyboardInterrupt:
                state = "interrupted"
                raise
            except Exception:
                (folder / "traceback.txt").write_text(traceback.format_exc())
                raise
    return "finished"


def check(cfg: Config) -> None:
    """Raise what `run` would refuse, before a sweep starts; writes nothing (but may download MNIST)."""
    if state_of(folder_of(cfg)) != "finished":
        device_of(cfg)
        load(cfg.data)
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
