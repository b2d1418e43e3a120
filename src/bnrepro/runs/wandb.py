"""W&B, a mirror of the local table: one W&B run per seed, or under `wandb agent` one per trial. The only file that
imports wandb, when it is used.

Nothing here can stop or slow training. A daemon thread makes every call to wandb; training hands it copies of
numbers that are on disk already and never waits for it, except in `close`, for at most CLOSE_TIMEOUT seconds.
The first thing that goes wrong gives one warning and ends the mirror; the table is complete without it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import queue
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from bnrepro import files
from bnrepro.config import ConfigError, RecordConfig
from bnrepro.runs.folder import Histogram, Histograms, RunFolder, Values
from bnrepro.runs.lines import TABLE, Row

logger = logging.getLogger(__name__)

INIT_TIMEOUT = 30.0  # seconds to open one W&B run
FINISH_TIMEOUT = 30.0  # seconds for the last uploads of one run
CLOSE_TIMEOUT = 60.0  # seconds for all of them
lost: list[str] = []  # why W&B's service does not answer: no later run of this process asks it again
BACKLOG = 10_000  # evaluations waiting for W&B before it is given up: bounds the memory

LONGEST_GROUP, LONGEST_JOB_TYPE, LONGEST_TAG = 128, 64, 64  # the server refuses longer ones, later
ARTIFACT = "table"  # the type of our artifacts
ALL = -1  # stands for a seed where one W&B run shows all of them

Line = dict[str, float | Histogram]  # one line of W&B's history
Batch = dict[tuple[int, int], Line]  # by (step, seed)


class WandbMirror:
    """Opened after the local table of the same folder, called after it, with the same methods."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], seeds: list[int]) -> None:
        self.folder = folder
        self.config = config
        self.seeds = seeds
        self.trial = (
            "WANDB_SWEEP_ID" in os.environ
        )  # of `wandb agent`, which gives the run its id: there is one
        self._pending: Batch = defaultdict(dict)
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._state, self._mode = "failed", ""
        self._off = bool(lost)
        self.complete = False  # all of it is with W&B, or in its files
        self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
        if not self._off:
            self._thread.start()

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None:
        if not self._off:
            row = {name: float(value) for name, value in values.items()}
            self._pending[int(step), int(seed)].update(row | dict(histograms or {}))

    def flush(self) -> None:
        if self._pending and not self._off:
            self._queue.put(self._pending)
            if self._queue.qsize() > BACKLOG:
                self._give_up(f"{BACKLOG} evaluations behind")
        self._pending = defaultdict(dict)

    def rewind(self, step: int, seeds: Collection[int]) -> None:
        """Replays the (rewound) table: see docs/wandb.md on what a resumed run looks like."""
        self._pending = defaultdict(dict)
        for row in self.folder.rows():
            if row.seed in seeds:
                self.log(row.step, row.seed, {row.name: row.value})
        for seed, step, name, histogram in self.folder.distributions():
            if seed in seeds:
                self.log(step, seed, {}, {name: histogram})
        self.flush()

    def close(self, state: str) -> None:
        self.flush()
        self._state = state
        self._queue.put(None)
        if self._thread.ident is None:
            return
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive() and not self._off:
            self._give_up(f"still uploading after {CLOSE_TIMEOUT:.0f} s", for_good=True)

    def _give_up(self, reason: object, for_good: bool = False) -> None:
        self._off = True
        if for_good:
            lost.append(str(reason))
        logger.warning(
            "W&B mirror stopped (%s). Training goes on, and the local table is complete: %s. "
            "When the run is finished, record it with: python scripts/wandb_sync.py %s%s",
            reason,
            self.folder.table,
            self.folder,
            " --online" if self.config["record"]["wandb"] == "online" else "",
        )

    # ---- from here on in the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        runs: dict[int, Any] = {}
        try:
            import wandb

            # Its debug log has a file of its own in the run's folder and would swamp ours.
            logging.getLogger("wandb").propagate = False
            self._start(wandb, runs)
            while (batch := self._queue.get()) is not None and not self._off:
                rows = over_seeds(batch) if self.trial else batch
                for (step, seed), values in sorted(rows.items(), key=lambda item: item[0]):
                    # W&B's own step is ours: of a replay it lacks what comes after the last it has.
                    if step >= runs[seed].starting_step:
                        runs[seed].log(_history_row(wandb, step, values), step=step, commit=True)
            if not self._off:  # given up, rows may lack: it is not recorded, and wandb_sync.py does it anew
                self._finish(wandb, runs)
        except Exception as error:
            if not self._off:
                gone = isinstance(error, ConnectionError | TimeoutError)
                self._give_up(f"{type(error).__name__}: {error}", for_good=gone)
        for run in runs.values():  # left over after an error
            with suppress(Exception):
                run.finish(exit_code=1)

    def _finish(self, wandb: Any, runs: dict[int, Any]) -> None:
        for seed in list(runs):
            runs[seed].summary["state"] = self._state
            self._upload_table(wandb, runs[seed], seed)
            runs.pop(seed).finish(exit_code=0 if self._state == "finished" else 1)
            if self._state == "finished":
                _mark(self.folder, seed).write_text(self._mode)
        self.complete = True

    def _start(self, wandb: Any, runs: dict[int, Any]) -> None:
        """One run per seed into `runs`, or one for all."""
        record, identity = self.config["record"], self._identity()
        mode = self._mode = self._reachable(record["wandb"])
        for seed in [ALL] if self.trial else self.seeds:
            # An agent says by the environment which run its trial is; the client reads that once a process.
            own = {"id": os.environ.get("WANDB_RUN_ID") if self.trial else f"{identity}-{seed}"}
            config = {**self.config, "seeds": self.seeds} if self.trial else {**self.config, "seed": seed}
            runs[seed] = wandb.init(
                **named(self.folder, self.config, seed),
                **own,
                project=project(record["project"]),
                config=config,
                dir=str(self.folder),
                mode=mode,
                resume="allow" if mode == "online" else None,
                reinit="create_new",
                settings=_quiet(wandb, {"sweep_id": os.environ["WANDB_SWEEP_ID"]} if self.trial else {}),
            )
            runs[seed].define_metric("step")
            runs[seed].define_metric("*", step_metric="step")

    def _reachable(self, mode: str) -> str:
        """Online if a key is known and the server takes it, else offline with one warning. Never prompts.

        Asked before the first init: an online init that fails keeps its run id, so that no second one can
        follow in this process.
        """
        if mode == "offline":
            return mode
        reason = unreachable()
        if not reason:
            return mode
        runs = self.folder.wandb / "offline-run-*"
        logger.warning("W&B goes on offline (%s). Upload later: wandb sync %s", reason, runs)
        return "offline"

    def _identity(self) -> str:
        """Random, but the same for every process that ever works in this folder.

        Not a function of the hyperparameters: the same experiment run again elsewhere would then resume the
        finished W&B run, which refuses every step it already has and so would silently show the old numbers.
        """
        file = self.folder.wandb / "id"
        if not (known := file.read_text() if file.exists() else ""):
            files.write(file, known := uuid.uuid4().hex[:12])
        return known

    def _upload_table(self, wandb: Any, run: Any, seed: int) -> None:
        """This seed's rows, or all, with what `collect` reads beside them: a run folder as an artifact.

        W&B's own history is sampled when it is read back, this is not.
        """
        copy = RunFolder(Path(run.dir).parent / "artifact")  # what lies in run.dir is uploaded once more
        write_table(copy, [row for row in self.folder.rows() if seed in (row.seed, ALL)])
        files.write(copy.config, yaml.safe_dump(self.config, sort_keys=False))
        files.write(copy.status_file, self.folder.status_file.read_bytes())
        artifact = wandb.Artifact(f"table-{run.id}", type=ARTIFACT, metadata={"run": self.folder.name})
        for file in sorted(copy.path.iterdir()):
            artifact.add_file(str(file), policy="immutable", skip_cache=True)  # no copy in the home folder
        run.log_artifact(artifact)


def unreachable() -> str:
    """Why the server cannot be written to, or nothing. Never prompts."""
    import wandb

    try:
        known = wandb.login(prompt=False, verify=True)
    except Exception as error:  # the client's own are of many kinds
        return str(error).partition("\n")[0]
    return "" if known else "no API key: run `wandb login` or set WANDB_API_KEY"


def write_table(folder: RunFolder, rows: list[Row]) -> None:
    files.write(folder.table, TABLE.header + "".join(map(TABLE.line, rows)))


def project(asked: str) -> str:
    """The project to record into: WANDB_PROJECT, unless record.project names another than the usual one."""
    usual = RecordConfig().project
    return os.environ.get("WANDB_PROJECT") or usual if asked == usual else asked


def named(folder: RunFolder, config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """name, group, job_type and tags of a W&B run; what the server would refuse as too long is shortened."""
    experiment, variant, key = config["experiment"], config["variant"], folder.path.name
    group = f"{experiment}/{variant}/{key}"
    if len(group) > LONGEST_GROUP:
        digest = hashlib.sha256(group.encode()).hexdigest()[:8]
        group = f"{group[: LONGEST_GROUP - 9]}-{digest}"
    told = key.rpartition("-")[0] or key  # the hash tells nobody anything
    tags = [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    return {
        "name": f"{variant} {told}" + ("" if seed == ALL else f" seed {seed}"),
        "group": group,
        "job_type": variant[:LONGEST_JOB_TYPE],
        "tags": list(dict.fromkeys([experiment[:LONGEST_TAG], *tags])),
    }


def over_seeds(batch: Batch) -> Batch:
    """One row a step: of every metric the mean over seeds, and of more seeds "seeds/low/..." and "seeds/high/..."."""
    found: Batch = {}
    for step in {step for step, _ in batch}:
        each = [row for (at, _), row in batch.items() if at == step]
        row: Line = {}
        for name in dict.fromkeys(name for one in each for name in one):
            values = [one[name] for one in each if name in one]
            numbers = [value for value in values if isinstance(value, float)]
            if not numbers:
                row[name] = values[0]  # a histogram: the first seed's
                continue
            row[name] = math.fsum(numbers) / len(numbers)
            if len(numbers) > 1:
                known = [value for value in numbers if not math.isnan(value)] or numbers
                row |= {f"seeds/low/{name}": min(known), f"seeds/high/{name}": max(known)}
        found[step, ALL] = row
    return found


def mirrored(folder: RunFolder, config: Mapping[str, Any], seeds: list[int]) -> bool:
    """Mirror a finished run from its table, unless that was done before; True if it was done now.

    What was recorded offline is sent where online is asked for: the server takes the rows that it lacks. Where the
    server cannot be reached, once into the run's files is enough.
    """
    mode = config["record"]["wandb"]
    if recorded(folder, seeds, mode):
        return False
    if mode == "online" and recorded(folder, seeds, "offline") and (reason := unreachable()):
        logger.warning("%s: recorded offline before, and not sent now (%s)", folder, reason)
        return False
    mirror = WandbMirror(folder, config, seeds)
    mirror.rewind(0, seeds)
    mirror.close("finished")
    return mirror.complete


def recorded(folder: RunFolder, seeds: list[int], mode: str) -> bool:
    """Whether these seeds of a run are with W&B (online), or there or in its files (offline), to their last row."""

    def done(seed: int) -> bool:
        mark = _mark(folder, seed)
        if mode == "offline" or not mark.exists():
            return mark.exists()
        earlier = not any(folder.wandb.glob("offline-run-*"))  # versions whose marks were empty
        return mark.read_text() == "online" or (mark.read_text() == "" and earlier)

    trial = _mark(folder, ALL).exists()  # of a sweep, in which it has its place: `wandb sync` sends it
    return trial or all(map(done, seeds))


def fetch(place: str, experiment: str, outputs: Path) -> list[str]:
    """The runs of an experiment in W&B's ENTITY/PROJECT, as the folders below `outputs` that they were made from.

    From their artifacts, which are whole. Returns, for the reader, which seeds are finished and not there. Raises
    ConfigError if there is no such project or no such run, or if two W&B runs hold the same seed.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    parts: dict[str, list[RunFolder]] = {}
    try:
        if not wandb.login(prompt=False):
            raise ConfigError("no API key: run `wandb login` or set WANDB_API_KEY")
        for run in wandb.Api().runs(place, filters={"tags": experiment[:LONGEST_TAG]}):
            whole = [a for a in run.logged_artifacts() if a.type == ARTIFACT and a.state == "COMMITTED"]
            for artifact in sorted(whole, key=lambda a: int(a.version[1:]))[-1:]:
                name = str(artifact.metadata.get("run"))
                if name.startswith(f"{experiment}/") and ".." not in name:
                    part = outputs / ".artifacts" / run.id
                    artifact.download(root=str(part), skip_cache=True)
                    parts.setdefault(name, []).append(RunFolder(part))
    except Exception as error:  # the client's own are of many kinds
        reason = str(error).partition("\n")[0].replace("Could not find project", "no such project:")
        raise ConfigError(f"{place}: {reason}") from error
    if not parts:
        words = f"no run of {experiment} with its table; scripts/wandb_sync.py records runs"
        raise ConfigError(f"{place}: {words}")
    return [line for name in sorted(parts) for line in _join(parts[name], RunFolder(outputs / name))]


def _join(parts: list[RunFolder], whole: RunFolder) -> list[str]:
    """One run from the artifacts of its W&B runs: each holds some seeds, and run.json as it was then.

    Where the mirror of a seed's last session gave up, its artifact is of an earlier one and lacks rows: it is left out.
    """
    newest = max(parts, key=lambda part: part.status()["provenance"].get("date", ""))
    ends, torn = newest.finished_tallies(), set()
    for part in parts:
        here = part.tallies(dict.fromkeys(ends, sys.maxsize))
        torn |= {seed for seed, tally in here.items() if tally.rows and tally != ends[seed]}
    rows = {part.path.name: [row for row in part.rows() if row.seed not in torn] for part in parts}
    holder: dict[int, str] = {}
    for name, held in rows.items():
        for seed in {row.seed for row in held}:
            if other := holder.get(seed):
                where = f"W&B's runs {other} and {name}"
                raise ConfigError(f"{whole.name}: seed {seed} is in {where}; delete one of them")
            holder[seed] = name
    together = [row for held in rows.values() for row in held]
    write_table(whole, sorted(together, key=lambda row: (row.step, row.seed)))
    files.write(whole.config, newest.config.read_bytes())
    status, there = newest.status(), [seed for seed in newest.finished_seeds() if seed in holder]
    whole.write_status(status["state"], there, status["provenance"], ends)
    lacking = sorted(set(newest.finished_seeds()) - set(there))
    words = ", or not whole; scripts/wandb_sync.py sends them again" if torn else ""
    return [f"{whole.name} (seeds {', '.join(map(str, lacking))} are not there{words})"] if lacking else []


def _mark(folder: RunFolder, seed: int) -> Path:
    return folder.wandb / f"mirrored-{seed}"


def _history_row(wandb: Any, step: int, values: Mapping[str, float | Histogram]) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step}
    for name, value in values.items():
        row[name] = wandb.Histogram(np_histogram=value) if isinstance(value, tuple) else value
    return row


def _quiet(wandb: Any, more: Mapping[str, str]) -> Any:
    """No output, system metrics or source: the run's own files say all that. kill -9 loses at most 1 s."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        **more,
    )
