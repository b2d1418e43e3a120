"""Sweeps: which runs train side by side, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnrepro.config import REFERENCE_BATCH, Config, ConfigError, InceptionConfig, MLPConfig
from bnrepro.config.address import packable
from bnrepro.config.size import check_memory, fits
from bnrepro.progress import progress
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.resume import jobs_of, refuse_old
from bnrepro.runs.run import check, run_together

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
    """Runs that train together: of equal shapes and steps, resuming at the same step.

    PACK replicas at most, and no more than fit into memory. Runs that a W&B mirror shows train alone: it keeps a
    live run for every seed. In the order given.
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
        together = [*piles[-1], cfg]
        if piles[-1] and (sum(len(each.seeds) for each in together) > most or not fits(*together)):
            piles.append([])
        piles[-1].append(cfg)
    return [pile for piles in groups.values() for pile in piles]


def train_pack(configs: list[Config], before: str = "", leave_busy: bool = True) -> str:
    """Train runs that share their shapes, those that nobody else works on; says which were finished before."""
    replicas = sum(len(c.seeds) for c in configs)
    with progress(before + label(configs), configs[0].steps, replicas) as update:
        states = run_together(configs, update, leave_busy)
    for config, state in zip(configs, states, strict=True):
        if state == "skipped" and len(configs) == 1:
            print(f"{label([config])}: finished before, skipped")
    return states[0]


def label(configs: list[Config]) -> str:
    """What differs between runs that train together is left to the closing table."""
    first = configs[0]
    words = [f"{first.experiment}/{'+'.join(dict.fromkeys(c.variant for c in configs))}"]
    if first.data.batch_size != REFERENCE_BATCH:
        words.append(f"batch {first.data.batch_size}")
    spreads = [c.model.init_std for c in configs if isinstance(c.model, MLPConfig)]
    for name, values in (("lr", [c.optim.lr for c in configs]), ("std", spreads)):
        if not values:
            continue
        low, high = min(values), max(values)
        words.append(f"{name} {low:g}" if low == high else f"{name} {low:g}..{high:g}")
    return " ".join(words)


def check_all(cfgs: list[Config], here: bool = True) -> None:
    """`check` of all runs that differ in what it looks at; unless they train `here`, not of this machine."""
    seen: dict[str, Config] = {}
    for cfg in unfinished(cfgs):
        refuse_old(cfg)
        if here:
            check_memory(cfg)
        train = (cfg.train.device, cfg.train.engine, cfg.train.processes)
        seen.setdefault(str((cfg.data, cfg.model, cfg.eval, cfg.output, train)), cfg)
    for cfg in seen.values():
        check(cfg, here)
