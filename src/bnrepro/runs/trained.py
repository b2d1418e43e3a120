"""Trained networks out of run folders."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import yaml
from torch import nn

from bnrepro.config import Config, ConfigError, InceptionConfig, MLPConfig, ModelConfig
from bnrepro.config.checks import check
from bnrepro.data import Dataset
from bnrepro.measure.evaluate import with_population_statistics
from bnrepro.models import build
from bnrepro.runs.folder import RunFolder, nearest_folder
from bnrepro.runs.resume import read_checkpoint
from bnrepro.training.engines.eager import Eager
from bnrepro.training.optim import Tensors
from bnrepro.training.state import Replica, State


def load(run_folder: str | Path, seed: int | None = None) -> nn.Module:
    """The network of a run and seed (the first, unless given) as its checkpoint has it: in evaluation mode, on the CPU.

    The module takes what it was trained on: (N, 784) in 0..1, or 0 and 1 with data.binarize, or (N, 3, H, W) in
    -1..1. It returns (logits (N, classes), taps by layer: inputs of nonlinearities). BN normalizes by its moving
    averages; `bnrepro.population_statistics(module, batches)` gives it the exact ones. No data are read.

    Raises ConfigError if the folder is no run's, has no checkpoint or not this seed; runs.folder.Damaged if a file is
    damaged.
    """
    folder = RunFolder(Path(run_folder))
    for path in (folder.config, folder.checkpoint):
        if not path.is_file():
            below = sorted(found.parent.name for found in folder.path.glob("*/config.yaml"))
            runs = ", ".join(below[:3]) + ", ..." * (len(below) > 3)
            hint = f" (runs are in folders below: {runs})" if below else nearest_folder(folder.path)
            raise ConfigError(
                f"{path} is not there{hint}: a run's folder holds config.yaml and checkpoint.pt"
            )
    model, size = _described(folder)
    seeds = read_checkpoint(folder)["seeds"]
    seed = min(seeds) if seed is None and seeds else seed
    if isinstance(seed, str):
        raise ConfigError(f"seed={seed!r}: a seed is a whole number, not a text")
    if seed not in seeds:
        has = ", ".join(map(str, sorted(seeds))) or "none"
        raise ConfigError(f"{folder.checkpoint} has no seed {seed}; it has {has}")
    params, buffers = seeds[seed]["params"], seeds[seed]["buffers"]
    shape = (size, size, 3) if isinstance(model, InceptionConfig) else (784,)
    return _net(model, shape, len(params["classifier.weight"]), params, buffers)


def with_population(folder: RunFolder, cfg: Config, data: Dataset, seed: int) -> nn.Module:
    """The net of a run's seed at its last step, in evaluation mode, with population statistics of its data.

    Raises ConfigError where the checkpoint is of an earlier step.
    """
    saved, state = read_checkpoint(folder)["seeds"].get(seed, {"step": -1}), State([Replica(cfg, seed)], data)
    words = f"{folder.checkpoint} does not have seed {seed} at step {cfg.steps:,}: train the run to its end"
    check(saved["step"] == cfg.steps, words)
    check(not (what := state.differs(saved)), f"{folder.checkpoint} is of another net ({what})")
    state.restore(0, saved)
    share = cfg.data.batch_size // (1 if cfg.model.sync else cfg.train.processes)
    with closing(Eager(state, data)) as engine:
        state = with_population_statistics(engine, state, data, share)
    params, buffers, _ = state.row(0)
    return _net(cfg.model, data.shape, data.classes, params, buffers)


def _described(folder: RunFolder) -> tuple[ModelConfig, int]:
    """The model that config.yaml describes, and the size of its images."""
    try:
        written = yaml.safe_load(folder.config.read_text())
        kind = {"mlp": MLPConfig, "inception": InceptionConfig}[written["model"]["name"]]
        known = {field.name for field in fields(kind)}
        model = kind(**{k: v for k, v in written["model"].items() if k in known})
        return model, int(written["data"]["size"]) or 64
    except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise ConfigError(f"{folder.config} describes no run: {type(error).__name__}: {error}") from error


def _net(
    cfg: ModelConfig, shape: tuple[int, ...], classes: int, params: Tensors, buffers: Tensors
) -> nn.Module:
    model = build(replace(cfg, sync=False), shape, classes)
    try:
        model.load_state_dict(params | buffers)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise ConfigError(
            f"the checkpoint is not of the net that config.yaml describes now: {words}"
        ) from error
    return model.eval()
