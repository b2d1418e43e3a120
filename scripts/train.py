"""Train: one run, or with -m a sweep. `python scripts/train.py --help` shows groups and settings."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from bnrepro.config import REFERENCE_BATCH, Config, MLPConfig
from bnrepro.config.checks import check
from bnrepro.config.commandline import arguments, without_format
from bnrepro.config.compose import CONF, jobs, single, typed, understood
from bnrepro.config.refusal import one_line
from bnrepro.config.schema import flat
from bnrepro.machine import WorkerLost, answer_signals, stop_asked
from bnrepro.progress import progress
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import REFUSALS, run_together
from bnrepro.runs.sweep import check_all, packs, unfinished
from bnrepro.training.engines.data_parallel import is_main, leave_process_group, world_size

os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to `main` whole, which says them in one line
failures: list[Exception] = []  # of this process's jobs


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


def sweep(configs: list[Config]) -> None:
    """Every job of a sweep, those that share their shapes side by side. A failure ends its own pack only.

    Runs on which another process works are left to it, and looked at again when it lets go.
    """
    todo = packs(unfinished(configs))
    failed = []
    for i, pack in enumerate(todo, 1):
        try:
            train_pack(pack, f"{i}/{len(todo)} " if len(todo) > 1 else "")
        except Exception as error:
            if stop := stop_asked():
                raise stop from error
            failures.append(error)
            failed += pack
            print(f"{label(pack)}: failed: {one_line(error)}", file=sys.stderr)
    left = [cfg for cfg in unfinished([cfg for pack in todo for cfg in pack]) if cfg not in failed]
    if left:
        runs = "1 run is" if len(left) == 1 else f"{len(left)} runs are"
        print(f"{runs} being trained by another process: waiting for it", flush=True)
        for cfg in left:
            RunFolder.of(cfg).wait()
        sweep(left)


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


def ended_by(error: BaseException) -> int:
    """Say in one line why the program ends; its exit status."""
    stop = stop_asked(error)
    if stop or isinstance(error, KeyboardInterrupt):
        words = "\nstopped; what was measured is on disk, and the same command goes on from there"
        print(words, file=sys.stderr)
        return stop.status if stop else 130
    if isinstance(error, (*REFUSALS, HydraException)):
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError | WorkerLost):
        print(f"error: {one_line(error)}; the same command goes on from what is on disk", file=sys.stderr)
    elif isinstance(error, Exception):
        traceback.print_exception(error)
    else:
        raise error
    return 1


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
        launched = any(axis.key == "hydra/launcher" for axis in given)  # joblib, submitit: one job a process
        agent = "WANDB_SWEEP_ID" in os.environ
        check(
            not (multirun and agent),
            "-m: under wandb agent a trial is one run; sweep in the sweep's own file",
        )
        check(multirun or not launched, "hydra/launcher= needs -m: it launches the jobs of a sweep")
        sys.argv[1:] = [*flags, *map(str, given)]  # as Hydra reads them: flags first, ranges written out
        if set(flags) - {"-m", "--multirun"}:  # --help, --cfg and such: Hydra's own
            train()
            if failures:
                raise failures[0]
            return 0
        configs = jobs(overrides) if multirun else [single(overrides)]
        before = [state_of(cfg) for cfg in configs]
        if multirun:
            check_all(configs)
            print(f"{len(configs)} jobs, {before.count('finished')} of them finished before", flush=True)
        try:
            sweep(configs) if multirun and not launched else train()
        finally:
            finished = not failures
            if is_main() and multirun:
                finished = closing(configs, before, how, out)
            elif is_main() and finished:
                closing(configs, before, how, out)
        if failures and not multirun:
            raise failures[0]
        return 0 if finished else 1
    except BaseException as error:
        return ended_by(error)
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
