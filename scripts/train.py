"""Train: one run, or with -m a sweep. `python scripts/train.py --help` shows groups and settings."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from bnrepro.config import Config, address
from bnrepro.progress import progress
from bnrepro.refusal import one_line
from bnrepro.run import REFUSALS, run, state_of

CONF = str(Path(__file__).resolve().parent.parent / "conf")
os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; `main` says them in one line
ConfigStore.instance().store(name="schema", node=Config)


def typed(cfg: DictConfig) -> Config:
    """The composed configuration as checked dataclasses."""
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def compose(overrides: list[str]) -> Config:
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return typed(hydra.compose("config", overrides))


def jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a sweep, as Hydra's basic sweeper makes them: the sweep of the experiment
    file (hydra.sweeper.params), what the command line names taking precedence."""
    given = [o for o in OverridesParser.create().parse_overrides(overrides) if not o.key_or_group.startswith("hydra")]
    single = [o.input_line for o in given if not o.is_sweep_override()]
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        params = hydra.compose("config", single, return_hydra_config=True).hydra.sweeper.params or {}
    named = {o.key_or_group for o in given}
    swept = [f"{key}={values}" for key, values in params.items() if key not in named]
    axes = []
    for o in OverridesParser.create().parse_overrides([*swept, *(str(o.input_line) for o in given)]):
        values = o.sweep_string_iterator() if o.is_sweep_override() else None
        axes.append([f"{o.get_key_element()}={v}" for v in values] if values else [str(o.input_line)])
    return [list(job) for job in itertools.product(*axes)]


failures: list[Exception] = []  # of this process's jobs


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def train(cfg: DictConfig) -> str:
    """One job. An error ends this job only: the others of a sweep go on; its traceback lies in its folder."""
    config = typed(cfg)
    label = f"{config.experiment}/{config.variant} lr {config.optim.lr:g} std {config.model.init_std:g}"
    try:
        with progress(label, config.train.steps, len(config.seeds)) as update:
            state = run(config, update)
    except Exception as error:
        failures.append(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            print(f"{label}: failed: {one_line(error)}", file=sys.stderr)
        return "failed"
    if state == "skipped":
        print(f"{label}: finished before, skipped")
    return state


def closing_table(configs: list[Config], before: list[str]) -> bool:
    """Print every job's state; True if all are finished."""
    table = Table("variant", "lr", "init std", "batch", "state", "folder")
    states = [state_of(Path(c.output) / address(c)) for c in configs]
    for c, state, old in zip(configs, states, before, strict=True):
        word = "skipped (finished before)" if state == old == "finished" else state
        row = (c.variant, f"{c.optim.lr:g}", f"{c.model.init_std:g}", str(c.data.batch_size), word, address(c))
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return all(state == "finished" for state in states)


def main() -> int:
    overrides = [a for a in sys.argv[1:] if not a.startswith("-")]
    asks_only = any(a in ("--help", "--hydra-help", "--info", "--cfg", "-c", "--version", "-h") for a in sys.argv[1:])
    sweep = "-m" in sys.argv or "--multirun" in sys.argv
    try:
        if asks_only:
            train()
            return 0
        configs = [compose(job) for job in jobs(overrides)] if sweep else [compose(overrides)]
        before = [state_of(Path(c.output) / address(c)) for c in configs]
        if sweep:
            print(f"{len(configs)} jobs, {before.count('finished')} of them finished before")
        train()
        if not sweep and failures:
            raise failures[0]
        if not sweep:
            print(f"results: {Path(configs[0].output) / address(configs[0])}")
        return 0 if not sweep or closing_table(configs, before) else 1
    except KeyboardInterrupt:
        print("\nstopped; what was measured is on disk, and the same command goes on from there", file=sys.stderr)
        return 130
    except (*REFUSALS, HydraException, OmegaConfBaseException) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
