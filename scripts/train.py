"""Train: one run, or with -m a sweep. `python scripts/train.py --help` shows groups and settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TextIO, TypeAlias

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from bnrepro.config import Config, SlurmConfig
from bnrepro.config.checks import check
from bnrepro.config.commandline import arguments, without_format
from bnrepro.config.compose import CONF, jobs, launcher_settings, left_out, single, typed, understood
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import flat
from bnrepro.machine import answer_signals, stop_asked
from bnrepro.runs.ending import ended_by
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.ray import check_ray, train_on_ray
from bnrepro.runs.slurm import check_slurm, train_on_slurm
from bnrepro.runs.sweep import check_all, label, packs, train_pack, unfinished
from bnrepro.training.engines.data_parallel import is_main, leave_process_group, world_size

os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to `main` whole, which says them in one line
failures: list[Exception] = []  # of this process's jobs
# Trains packs, and says which of them failed and why.
Trainer: TypeAlias = Callable[[list[list[Config]]], list[tuple[list[Config], Exception]]]


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def train(cfg: DictConfig) -> str:
    """One job. An error ends this job only: the others of a sweep go on; its traceback lies in its folder."""
    config, one_of_many = typed(cfg), HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        state = train_pack([config], leave_busy=one_of_many)
        while state == "busy":
            RunFolder.of(config).wait()
            state = train_pack([config])
    except Exception as error:
        if stop := stop_asked():
            raise stop from error
        failures.append(error)
        if one_of_many:
            print(f"{label([config])}: failed: {one_line(error)}", file=sys.stderr)
        return "failed"
    return state


def sweep(configs: list[Config], train_packs: Trainer) -> None:
    """Every job of a sweep, those that share their shapes side by side. A failure ends its own pack only.

    Runs on which another process works are left to it, and looked at again when it lets go.
    """
    todo = packs(unfinished(configs))
    failed = []
    for pack, error in train_packs(todo) if todo else ():
        failures.append(error)
        failed += pack
    left = [cfg for cfg in unfinished([cfg for pack in todo for cfg in pack]) if cfg not in failed]
    if left:
        runs = "1 run is" if len(left) == 1 else f"{len(left)} runs are"
        print(f"{runs} being trained by another process: waiting for it", flush=True)
        for cfg in left:
            RunFolder.of(cfg).wait()
        sweep(left, train_packs)


def one_by_one(todo: list[list[Config]]) -> list[tuple[list[Config], Exception]]:
    """Train packs in this process; those that failed, and why."""
    failed = []
    for i, pack in enumerate(todo, 1):
        try:
            train_pack(pack, f"{i}/{len(todo)} " if len(todo) > 1 else "")
        except Exception as error:
            if stop := stop_asked():
                raise stop from error
            failed.append((pack, error))
            print(f"{label(pack)}: failed: {one_line(error)}", file=sys.stderr)
    return failed


def say(words: str) -> None:
    print(words, flush=True)


def state_of(cfg: Config) -> str:
    return RunFolder.of(cfg).state(cfg.seeds)


def closing(configs: list[Config], before: list[str], how: str, out: TextIO) -> bool:
    """Say what every run came to and where its folder is; True if all are finished."""
    from bnrepro.analysis import summary  # pandas: not needed before the end

    lines, states = [], [state_of(cfg) for cfg in configs]
    for cfg, state, old in zip(configs, states, before, strict=True):
        word = "skipped (finished before)" if state == old == "finished" else state
        lines.append(summary.line(RunFolder.of(cfg), flat(cfg.resolved()), word))
    if how != "table":
        print(summary.rendered(lines, how), file=out)
        return all(state == "finished" for state in states)
    headings, cells = summary.columns(lines)
    table = Table(*headings)
    for row in cells:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for place in dict.fromkeys(str(RunFolder.of(cfg).path.parent) for cfg in configs):
        print(f"results: {place if len(configs) > 1 else RunFolder.of(configs[0])}")
    return all(state == "finished" for state in states)


def main() -> int:
    failures.clear()
    out = sys.stdout
    try:
        if world_size() > 1:
            sys.argv.append(f"train.processes={world_size()}")
            if not is_main():
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115, the main process speaks and judges for all
        flags, overrides = arguments(sys.argv[1:])
        flags, how = without_format(flags)
        if how != "table":
            sys.stdout = sys.stderr  # the closing table has the other for itself
        multirun = "-m" in flags or "--multirun" in flags
        given = understood(overrides)
        launcher = next(
            (axis.values[0].partition("=")[2] for axis in given if axis.key == "hydra/launcher"), ""
        )
        agent = "WANDB_SWEEP_ID" in os.environ
        check(
            not (multirun and agent),
            "-m: under wandb agent a trial is one run; sweep in the sweep's own file",
        )
        for axis in given:
            check(not (axis.swept and axis.key.startswith("hydra")), f"{axis}: one value for a whole sweep")
            idle = axis.key.startswith("hydra.launcher") and not launcher
            check(not idle, f"{axis}: is of a launcher; add hydra/launcher=slurm or ray")
        check(multirun or not launcher, "hydra/launcher= needs -m: it launches the jobs of a sweep")
        sys.argv[1:] = [*flags, *map(str, given)]  # as Hydra reads them: flags first, ranges written out
        if set(flags) - {"-m", "--multirun"}:  # --help, --cfg and such: Hydra's own
            train()
            if failures:
                raise failures[0]
            return 0
        train_packs: Trainer = one_by_one
        sends = launcher in ("slurm", "ray")  # packs, to a cluster; Hydra's own launchers: one job a process
        if sends:
            settings = launcher_settings(overrides)
            sent = {"command": list(sys.argv), "say": say}
            if isinstance(settings, SlurmConfig):
                check_slurm(settings)
                train_packs = partial(train_on_slurm, settings=settings, **sent)
                if settings.processes > 1:
                    overrides = [*overrides, f"train.processes={settings.processes}"]
            else:
                check_ray(settings)
                train_packs = partial(train_on_ray, settings=settings, **sent)
        configs = jobs(overrides) if multirun else [single(overrides, one_of_many=agent)]
        swept = "" if multirun or agent else left_out(given)
        before = [state_of(cfg) for cfg in configs]
        if multirun:
            check_all(configs, here=not sends)
            print(f"{len(configs)} jobs, {before.count('finished')} of them finished before", flush=True)
        try:
            sweep(configs, train_packs) if multirun and (sends or not launcher) else train()
        finally:
            finished = not failures
            if is_main() and multirun:
                finished = closing(configs, before, how, out)
            elif is_main() and finished:
                closing(configs, before, how, out)
                if swept:
                    print(
                        f"experiment={configs[0].experiment} sweeps {swept}: this is one run of it, -m trains all"
                    )
        if failures and not multirun:
            raise failures[0]
        return 0 if finished else 1
    except BaseException as error:
        return ended_by(error, HydraException)
    finally:
        sys.stdout = out


def leave(status: int) -> None:
    """End the process.

    At once where W&B was given up, whose client would wait for its service at exit, and where there was a group of
    processes, whose threads may abort then.
    """
    mirror = sys.modules.get("bnrepro.runs.wandb")
    if leave_process_group(together=status == 0) or (mirror is not None and mirror.lost):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    answer_signals()
    leave(main())
