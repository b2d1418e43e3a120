"""Sweeps: which runs train side by side, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnrepro.config import Config, ConfigError, InceptionConfig
from bnrepro.config.address import packable
from bnrepro.config.size import check_memory
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import check, jobs_of, refuse_old

PACK = {"mlp": 256, "inception": 8}  # replicas that train together at most: 1.5 MB of state each, or 90


def unfinished(cfgs: list[Config]) -> list[Config]:
    """Each run that is not finished once, in the order given, with all seeds asked for."""
    kept: dict[str, Config] = {}
    for cfg in cfgs:
        folder = RunFolder.of(cfg)
        if folder.state(cfg.seeds) != "finished":
            first = kept.get(str(folder), cfg)
            kept[str(folder)] = replace(first, seeds=sorted({*first.seeds, *cfg.seeds}))
    return list(kept.values())


def packs(cfgs: list[Config]) -> list[list[Config]]:
    """Runs that train together: of equal shapes and steps, resuming at the same step, PACK replicas at most.

    Runs that a W&B mirror shows train alone: it keeps a live run for every seed. In the order given.
    """
    groups: dict[Any, list[list[Config]]] = {}
    for cfg in cfgs:
        folder = RunFolder.of(cfg)
        alone = str(folder) if cfg.record.wandb != "off" else ""
        try:
            stands_at = tuple(job.step for job in jobs_of(cfg))
        except ConfigError:  # refused when its turn comes, and no other run with it
            stands_at, alone = (), str(folder)
        most = PACK["inception" if isinstance(cfg.model, InceptionConfig) else "mlp"]
        piles = groups.setdefault((packable(cfg), stands_at, alone), [[]])
        if sum(len(each.seeds) for each in [*piles[-1], cfg]) > most and piles[-1]:
            piles.append([])
        piles[-1].append(cfg)
    return [pile for piles in groups.values() for pile in piles]


def check_all(cfgs: list[Config]) -> None:
    """`check` of all runs that differ in what it looks at."""
    seen: dict[str, Config] = {}
    for cfg in unfinished(cfgs):
        refuse_old(cfg)
        check_memory(cfg)
        seen.setdefault(str((cfg.data, cfg.model, cfg.output, cfg.train.device, cfg.train.engine)), cfg)
    for cfg in seen.values():
        check(cfg)
