"""One run from configuration to finished folder: its address, its lock, its status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import yaml

from bnrepro.config import Config, ConfigError, address
from bnrepro.data import DataError, load
from bnrepro.drives import build_replicas
from bnrepro.provenance import provenance
from bnrepro.record import RunBusy, RunLock, open_recorder, write_atomically, write_status
from bnrepro.train import Progress, fit

# What the user can mend: reported in one line, without a traceback.
REFUSALS = (ConfigError, DataError, RunBusy)


def run(cfg: Config, progress: Progress) -> str:
    """Train cfg in its own folder: "finished", or "skipped" if it was finished already.

    Raises ConfigError, DataError or RunBusy before anything on disk changes. Whatever else goes wrong is
    recorded in the folder (run.json, traceback.txt) and raised again.
    """
    folder = Path(cfg.output) / address(cfg)
    if state_of(folder) == "finished":
        return "skipped"
    data = load(cfg.data)
    _make(folder)
    with RunLock(folder):
        import torch  # the device's name belongs to the provenance; by now torch is loaded anyway

        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() and cfg.train.device != "cpu" else "cpu"
        )
        facts = provenance(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]], device)
        write_atomically(folder / "config.yaml", yaml.safe_dump(asdict(cfg), sort_keys=False).encode())
        write_status(folder, "running", facts)
        state, recorder, replicas = "failed", None, None
        try:
            replicas = build_replicas(cfg, data)  # forks; so before the recorder starts a thread
            recorder = open_recorder(folder, asdict(cfg), cfg.seeds)
            facts |= fit(cfg, replicas, recorder, folder, progress)
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except Exception:
            (folder / "traceback.txt").write_text(traceback.format_exc())
            raise
        finally:
            if recorder:
                recorder.close(state)
            if replicas:
                replicas.close()
            write_status(folder, state, facts)
    return "finished"


def state_of(folder: Path) -> str:
    """ "running", "finished", "interrupted" or "failed"; "not started" where no run has been."""
    status = folder / "run.json"
    return json.loads(status.read_text())["state"] if status.exists() else "not started"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}; set output= to a folder you can write"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write into {folder}; set output= to a folder you can write")
