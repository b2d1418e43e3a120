"""Train: one run, or with -m a sweep. `python scripts/train.py --help` shows groups and settings."""

from __future__ import annotations

import os
import sys
import traceback

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from bnrepro.composed import CONF, jobs, single, typed
from bnrepro.config import Config
from bnrepro.progress import progress
from bnrepro.refusal import one_line
from bnrepro.run import REFUSALS, check, folder_of, run, state_of

os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to `main` whole, which says them in one line
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
    states = [state_of(folder_of(cfg)) for cfg in configs]
    for cfg, state, old in zip(configs, states, before, strict=True):
        word = "skipped (finished before)" if state == old == "finished" else state
        row = (cfg.variant, f"{cfg.optim.lr:g}", f"{cfg.model.init_std:g}", str(cfg.data.batch_size))
        table.add_row(*row, word, str(folder_of(cfg)))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return all(state == "finished" for state in states)


def main() -> int:
    flags = [a for a in sys.argv[1:] if a.startswith("-")]
    overrides = [a for a in sys.argv[1:] if not a.startswith("-")]
    sweep = "-m" in flags or "--multirun" in flags
    try:
        if set(flags) - {"-m", "--multirun"}:  # --help, --cfg and such: Hydra's own
            train()
            if failures:
                raise failures[0]
            return 0
        configs = jobs(overrides) if sweep else [single(overrides)]
        before = [state_of(folder_of(cfg)) for cfg in configs]
        if sweep:
            for cfg in {str((cfg.data, cfg.output, cfg.train.device)): cfg for cfg in configs}.values():
                check(cfg)
            print(f"{len(configs)} jobs, {before.count('finished')} of them finished before", flush=True)
        try:
            train()
        finally:
            finished = closing_table(configs, before) if sweep else not failures
        if failures and not sweep:
            raise failures[0]
        if not sweep:
            print(f"results: {folder_of(configs[0])}")
        return 0 if finished else 1
    except KeyboardInterrupt:
        print(
            "\nstopped; what was measured is on disk, and the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    except (*REFUSALS, HydraException) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        traceback.print_exception(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
