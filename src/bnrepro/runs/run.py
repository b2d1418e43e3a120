"""Runs from configuration to finished folder."""

from __future__ import annotations

import sys
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from bnrepro import files, machine
from bnrepro.config import BATCH_NORMS, Config, ConfigError, without_paths
from bnrepro.config.address import address, packable
from bnrepro.config.refusal import one_line
from bnrepro.config.size import check_memory
from bnrepro.data import DataError, Dataset, load
from bnrepro.measure.evaluators import Measurer, Measures
from bnrepro.measure.probe import NOISE_CHUNK
from bnrepro.progress import Progress
from bnrepro.runs.folder import RunBusy, RunFolder, Table
from bnrepro.runs.lines import Tally
from bnrepro.runs.provenance import provenance
from bnrepro.runs.resume import CHECKPOINT_VERSION, Job, cohorts, jobs_of, mend, refuse_old, resumable
from bnrepro.training.engines import Engine, build_engine, device_of, name_of
from bnrepro.training.engines.data_parallel import (
    check_processes,
    follow_plans,
    init_process_group,
    is_main,
    share_plan,
    world_size,
)
from bnrepro.training.loop import fit
from bnrepro.training.state import Replica, State

# What is kept of the provenance of earlier sessions.
OF_A_SESSION = ("commit", "dirty", "date", "hardware", "engine", "threads", "seeds")


class Run:
    """A job at work: its folder, its recorders, its rows of the state."""

    def __init__(self, job: Job, rows: slice, device: torch.device, engine: Engine) -> None:
        self.cfg, self.seeds, self.step = job
        self.rows, self.folder = rows, RunFolder.of(job.cfg)
        self._checkpoint = resumable(job.cfg)
        self._recorders: list[Any] = []  # the table first
        self._kept: tuple[dict[int, dict[str, Any]], float] | None = None  # not written yet
        program = sys.argv[0]  # "bnrepro train" where __main__.py runs it
        command = ["python", f"scripts/{Path(program).name}", *sys.argv[1:]]
        if program.startswith("bnrepro "):
            command = [*program.split(), *sys.argv[1:]]
        self.facts = provenance(command, name_of(device))
        self.facts |= {"engine": engine.name, "seeds": self.seeds}
        if spent := self._checkpoint["wall_s"]:  # of all sessions and seeds so far
            self.facts["wall_s"] = spent
        if engine.threads is not None:
            self.facts["threads"] = engine.threads
        self.before = [s for s in self.folder.finished_seeds() if s not in self.seeds]
        self.whole = self.folder.finished_tallies()  # of seeds that were finished before
        if earlier := self.folder.status().get("provenance"):
            kept = {k: earlier[k] for k in OF_A_SESSION if k in earlier}
            self.facts["earlier_sessions"] = [*earlier.get("earlier_sessions", []), kept]

    def restore(self, state: State) -> None:
        # Of finished seeds, too: new ones go into the same table.
        for saved in self._checkpoint["seeds"].values():
            if what := state.differs(saved):
                words = f"is of another net ({what}): its code has changed since"
                hint = "remove the run (scripts/runs.py rm) or set output=FOLDER"
                raise ConfigError(f"{self.folder.checkpoint} {words}; {hint}")
        if self.step >= 0:
            for s, seed in zip(range(self.rows.start, self.rows.stop), self.seeds, strict=True):
                state.restore(s, self._checkpoint["seeds"][seed])

    def open(self) -> None:
        """From here on the folder says that the run is running."""
        settings = self.cfg.resolved() | {"seeds": sorted({*self.before, *self.seeds})}
        files.write(self.folder.config, yaml.safe_dump(settings, sort_keys=False))
        self.folder.write_status("running", self.before, self.facts, self.whole)
        self.folder.traceback.unlink(missing_ok=True)
        self._recorders.append(Table(self.folder))
        if self.cfg.record.wandb != "off":
            from bnrepro.runs.wandb import WandbMirror

            self._recorders.append(WandbMirror(self.folder, without_paths(settings), self.seeds))
        for recorder in self._recorders:  # the table first: no mirror is ahead of the disk
            recorder.rewind(self.step, self.seeds)

    def record(self, step: int, measures: list[Measures]) -> None:
        if stop := machine.stop_asked():  # a library swallowed it: in an import, in a callback
            raise stop
        for recorder in self._recorders:
            for seed, (values, histograms) in zip(self.seeds, measures[self.rows], strict=True):
                recorder.log(step, seed, values, histograms)
            recorder.flush()

    def keep(self, state: State, seconds: float) -> None:
        """Remember where the nets stand, which is what `save` writes: a stop may come at any moment."""
        tallies = self._recorders[0].tallies
        mine = {seed: state.saved(s) for s, seed in enumerate(self.seeds, self.rows.start)}
        for seed, saved in mine.items():
            saved["table"] = list(tallies.get(seed, Tally()))
        self._kept = mine, seconds

    def save(self, last: bool = False) -> None:
        """Write what was kept; a crash leaves the previous file.

        A disk that fails ends no run: tried again at the next evaluation. After the `last` there is none: OSError.
        """
        if self._kept is None:
            return
        mine, seconds = self._kept
        spent = self._checkpoint["wall_s"] + seconds
        content = {"version": CHECKPOINT_VERSION, "run": address(self.cfg), "wall_s": spent}
        content["seeds"] = self._checkpoint["seeds"] | mine
        try:
            with files.replacing(self.folder.checkpoint) as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:  # torch says a failing write as a RuntimeError
            words = f"{self.folder.checkpoint}: not written ({one_line(error)})"
            if last:
                self._kept = None  # nobody tries again
                raise OSError(words) from error
            print(f"{words}; tried again later", file=sys.stderr)
            return
        self._kept = None
        self.facts["wall_s"] = spent

    def close(self, state: str) -> None:
        """The table, then run.json, which the mirror sends with it; the mirror last: it may take a minute."""
        table, mirrors = self._recorders[:1], self._recorders[1:]
        done, tallies = self.before, self.whole
        try:
            for recorder in table:
                if state == "finished" and self.before:
                    recorder.settle()
                recorder.close(state)
            if state == "finished":
                done = [*self.before, *self.seeds]
                mine = {seed: tally for seed, tally in table[0].tallies.items() if seed in self.seeds}
                tallies = mine | self.whole
        except BaseException as error:  # a full disk, or a signal while the table is put in order
            state = "failed" if isinstance(error, Exception) else "interrupted"
            raise
        finally:
            try:
                self.folder.write_status(state, done, self.facts, tallies)
            finally:
                for mirror in mirrors:
                    mirror.close(state)


def run(cfg: Config, progress: Progress) -> str:
    """Train cfg in its own folder: "finished", or "skipped" if it was so already. See `run_together`."""
    return run_together([cfg], progress)[0]


def run_together(cfgs: list[Config], progress: Progress, leave_busy: bool = False) -> list[str]:
    """Train runs of equal `packable` side by side, each in its own folder, and return their states.

    Seeds that are finished are left alone; seeds that stand at different steps train one after another. Raises
    ConfigError, DataError or RunBusy before anything on disk changes; with leave_busy a run on which another
    process works is left to it, and its state is "busy". Whatever else goes wrong is recorded in the folders
    and raised again.
    """
    if len({packable(cfg) for cfg in cfgs}) != 1:
        raise ValueError("runs of different shapes or lengths do not train together")
    _check_machine()
    device, shared = device_of(cfgs[0]), world_size() > 1
    if shared:
        init_process_group(device)
        if not is_main():
            follow_plans(cfgs, data_of(cfgs[0]), device)
            return ["skipped"] * len(cfgs)
    todo: list[Config] = []
    busy: list[Config] = []
    try:
        with ExitStack() as locks:
            data = None
            for cfg in cfgs:
                folder = RunFolder.of(cfg)
                if folder.state(cfg.seeds) != "finished":
                    check_processes(cfg)
                    check_memory(cfg)
                    data = data or data_of(cfg).to(device)
                    refuse_old(cfg)
                    folder.make()
                    try:
                        locks.enter_context(folder.lock())
                    except RunBusy:
                        if not leave_busy:
                            raise
                        busy.append(cfg)
                        continue
                    # perhaps by another process, while this one read the data
                    if folder.state(cfg.seeds) != "finished":
                        mend(cfg)
                        todo.append(cfg)
            for jobs in cohorts([job for cfg in todo for job in jobs_of(cfg)]):
                assert data is not None
                if shared:
                    share_plan([(cfgs.index(job.cfg), job.seeds) for job in jobs])
                _train(jobs, data, progress)
    finally:
        if shared:
            share_plan(None)
    for cfg in cfgs:
        if cfg not in todo and cfg not in busy and cfg.record.wandb != "off":
            _mirror_afterwards(cfg)
    return ["busy" if cfg in busy else "finished" if cfg in todo else "skipped" for cfg in cfgs]


def _mirror_afterwards(cfg: Config) -> None:
    """A run that was finished before W&B was asked for is recorded from its table, once."""
    from bnrepro.runs.wandb import mirrored

    folder = RunFolder.of(cfg)
    if mirrored(folder, without_paths(cfg.resolved()), cfg.seeds):
        print(f"{folder}: finished before; recorded for W&B now, from its table", flush=True)


def _train(jobs: list[Job], data: Dataset, progress: Progress) -> None:
    replicas = [Replica(job.cfg, seed) for job in jobs for seed in job.seeds]
    state, status = State(replicas, data), "failed"
    with ExitStack() as cleanup:
        engine = build_engine(state, data)  # forks; so before a recorder starts a thread
        cleanup.callback(engine.close)
        runs, start = [], 0
        for job in jobs:
            rows = slice(start, start := start + len(job.seeds))
            runs.append(Run(job, rows, data.device, engine))
            runs[-1].restore(state)
            cleanup.callback(lambda run=runs[-1]: run.close(status))
        try:
            for run in runs:
                run.facts["trained_with"] = (
                    len(runs) - 1
                )  # other runs beside it: they share wall time and rates
                run.open()
            measured = fit(state, engine, Measurer(engine, state, data), runs, progress)
            for run in runs:
                run.facts |= {k: measured[k] for k in ("steps_per_s", "replica_steps_per_s")}
            status = "finished"
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt) or machine.stop_asked()
            status = "interrupted" if stopped else "failed"
            for run in runs:
                run.save()
                if status == "failed":
                    with suppress(OSError):  # the disk may be what failed
                        files.write(run.folder.traceback, traceback.format_exc())
            raise


def data_of(cfg: Config) -> Dataset:
    """The data of a run, with all the splits that it asks for. Raises DataError."""
    data = load(cfg.data, cfg.model)
    if cfg.eval.test and data.test_labels is None:
        raise DataError(
            f"eval.test=true: {cfg.data.name} has no val/ folder here, whose images are the test set"
        )
    if cfg.model.norm in BATCH_NORMS:
        m, images = cfg.data.batch_size, len(data.eval_labels)
        if cfg.eval.inference and images < m:
            raise DataError(f"eval.inference=true: one mini-batch of {m} needs more than {images} images")
        if cfg.eval.noise and data.examples < NOISE_CHUNK:
            raise DataError(f"eval.noise=true: needs {NOISE_CHUNK} training images, not {data.examples}")
    return data


def check(cfg: Config, here: bool = True) -> None:
    """Raise what `run` would refuse, before a sweep starts; writes into no run's folder.

    Data are read as for a run: downloaded and decoded into the cache where they are not yet.

    Where it trains elsewhere and not `here`, this machine's device and memory do not matter.
    """
    _check_machine()
    folder = RunFolder.of(cfg)
    if folder.state(cfg.seeds) != "finished":
        if here:
            check_processes(cfg)
            device_of(cfg)
            check_memory(cfg)
        data_of(cfg)
        refuse_old(cfg)
        folder.check_writable()


def _check_machine() -> None:
    if why := machine.supported():
        raise ConfigError(why)
