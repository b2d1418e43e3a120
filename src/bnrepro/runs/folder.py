"""A run's folder: the one owner of the names of the files in it. Neither torch nor hydra is imported.

    config.yaml     the run's settings, resolved
    table.csv       one measured number a line: seed,step,name,value. The truth: figures read nothing else
    histograms.csv  of the probed layers' activations: seed,step,name,counts. To be looked at; no number is read from it
    run.json        state (running, finished, interrupted, failed, damaged), seeds that are finished with the
                    number and checksum of their rows, provenance
    checkpoint.pt   the nets of all seeds, where they stand
    traceback.txt   of the last failure
    lock            held by the process that works on the run
    wandb/          W&B's files, if it mirrors the run

The table of a run which is killed and resumed ends with the same bytes as that of one which never stopped, and
so does that of five seeds to which five are added later: values are written with repr() and read back exactly;
lines reach the disk before the checkpoint of their step does; a resumed run first drops every line past its
checkpoint; and at the end lines are in the order of steps and seeds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bnrepro import files
from bnrepro.config import Config, ConfigError
from bnrepro.config.address import place
from bnrepro.config.checks import nearest
from bnrepro.measure.metrics import EDGES, declared
from bnrepro.runs.lines import HISTOGRAMS, TABLE, Lines, Row, Tally

Values = Mapping[str, float]
Histogram = tuple[
    list[int], list[float]
]  # counts, and the edges of measure/metrics.py: one edge more than counts
Histograms = Mapping[str, Histogram]


class RunBusy(RuntimeError):
    """Another process works in this run's folder."""


class Damaged(ValueError):
    """A file of the folder does not hold what the run wrote into it; the message says which, and how one sees."""


def nearest_folder(folder: Path) -> str:
    """The hint " (did you mean a?)" for a folder that is not there, from those beside it; or nothing."""
    return nearest(folder.name, sorted(path.name for path in folder.parent.glob("*") if path.is_dir()))


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.table = self.path / "table.csv"
        self.histograms = self.path / "histograms.csv"
        self.status_file = self.path / "run.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.traceback = self.path / "traceback.txt"
        self.wandb = self.path / "wandb"

    @classmethod
    def of(cls, cfg: Config) -> RunFolder:
        return cls(place(Path(cfg.output), cfg))

    @classmethod
    def below(cls, folder: Path) -> list[RunFolder]:
        """All run folders in `folder`, at any depth, in alphabetical order. Files of W&B have the same name in it."""
        found = [cls(path.parent) for path in sorted(Path(folder).glob("**/config.yaml"))]
        mirrors = {run.wandb for run in found}
        return [run for run in found if mirrors.isdisjoint(run.path.parents)]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """<experiment>/<variant>/<key>."""
        return "/".join(self.path.parts[-3:])

    def status(self) -> dict[str, Any]:
        """What run.json says; nothing where no run has been. Raises ConfigError if it is damaged."""
        try:
            return json.loads(self.status_file.read_text()) if self.status_file.is_file() else {}
        except ValueError as error:
            raise ConfigError(
                f"{self.status_file} is damaged ({error}); delete it to resume the run"
            ) from error

    def finished_seeds(self) -> list[int]:
        return self.status().get("seeds", [])

    def state(self, seeds: Collection[int]) -> str:
        """Of the run with these seeds: "finished", "running", "interrupted", "failed", "damaged", "not started"."""
        status = self.status()
        if set(seeds) <= set(status.get("seeds", [])):
            return "finished"
        state = status.get("state", "not started")
        return "not started" if state == "finished" else state  # finished with other seeds

    def write_status(
        self,
        state: str,
        seeds: Collection[int],
        provenance: Mapping[str, Any],
        tallies: Mapping[int, Tally] | None = None,
    ) -> None:
        """`seeds`: those that are finished; `tallies`: of their rows, by seed, where known."""
        rows = {str(seed): [*tally] for seed, tally in sorted((tallies or {}).items()) if seed in seeds}
        status = {"state": state, "seeds": sorted(seeds), "rows": rows, "provenance": dict(provenance)}
        files.write(self.status_file, json.dumps(status, indent=2) + "\n")

    def make(self) -> None:
        """Raises ConfigError where the folder cannot be made or written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigError(
                f"cannot make {self}: {reason}; set output= to a folder you can write"
            ) from error
        self.check_writable()

    def check_writable(self) -> None:
        """Raises ConfigError unless the folder, or the one it would be made in, can be written."""
        place = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise ConfigError(f"cannot write into {place}; set output= to a folder you can write")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process per run folder. The kernel lets go when the process ends, however it ends."""
        with ExitStack() as held:
            try:
                held.enter_context(files.locked(self.path / "lock"))
            except files.Busy:
                raise RunBusy(f"{self}: another process is working on this run") from None
            except OSError as error:
                raise ConfigError(f"cannot lock {self}: {error.strerror}; is it another user's?") from error
            yield

    def at_work(self) -> bool:
        """Whether another process works on this run: from before it says so until after its last word."""
        lock = self.path / "lock"
        if not lock.exists():
            return False
        try:
            with files.locked(lock):
                return False
        except (files.Busy, PermissionError):  # or another user's: nobody here can tell
            return True

    def wait(self) -> None:
        """Until no other process works on this run."""
        with files.locked(self.path / "lock", busy=lambda: None):
            pass

    def tallies(self, steps: Mapping[int, int]) -> dict[int, Tally]:
        """Of each seed's rows up to its step. Raises Damaged for a file that is no run's table."""
        found = dict.fromkeys(steps, Tally())
        try:
            lines = TABLE.whole(self.table)[1:] if self.table.exists() else []
            for number, line in enumerate(lines, 2):
                row = TABLE.parse(line, self.table, number)
                if row.step <= steps.get(row.seed, -1):
                    found[row.seed] = found[row.seed].plus(line)
        except ValueError as error:
            raise Damaged(str(error)) from None
        return found

    def finished_tallies(self) -> dict[int, Tally]:
        """Of each finished seed's rows as they were at its end. One that an earlier version finished has none."""
        return {int(seed): Tally(*tally) for seed, tally in self.status().get("rows", {}).items()}

    def check_table(self) -> None:
        """Raises Damaged where the table no longer holds the rows of a finished seed as they were at its end."""
        if written := self.finished_tallies():
            here = self.tallies(dict.fromkeys(written, sys.maxsize))
            for seed, tally in written.items():
                if here[seed] != tally:
                    words = f"and not those {tally.rows:,} that the run wrote"
                    if here[seed].rows == tally.rows:
                        words = "not all of them as the run wrote them"
                    raise Damaged(f"{self.table}: {here[seed].rows:,} rows of seed {seed}, {words}")

    def set_aside(self) -> list[str]:
        """Rename the files of numbers and nets to <name>.damaged-N, so that the run can start over; their new names."""
        number, moved = self.damaged(), []
        for path in (self.table, self.checkpoint, self.histograms):
            if path.exists():
                moved.append(f"{path.name}.damaged-{number}")
                path.rename(path.with_name(moved[-1]))
        return moved

    def damaged(self) -> int:
        """The number that the next file to be set aside gets."""
        return 1 + len(list(self.path.glob("*.damaged-*")))

    def rows(self) -> list[Row]:
        """The table. Raises FileNotFoundError, or ValueError naming file and line if the file is no such table."""
        return TABLE.rows(self.table)

    def distributions(self) -> list[tuple[int, int, str, Histogram]]:
        """The histograms as (seed, step, name, histogram); none where none was kept, or where the file is damaged."""
        try:
            rows = HISTOGRAMS.rows(self.histograms) if self.histograms.exists() else []
        except ValueError as damage:  # they are for looking: nothing hangs on them
            print(f"{str(damage)[:200]}; histograms are left out", file=sys.stderr)
            return []
        return [(seed, step, name, (counts, EDGES)) for seed, step, name, counts in rows]


class Table:
    """Crash-safe appending to a run's table, and to its histograms beside it."""

    def __init__(self, folder: RunFolder) -> None:
        """Raises ValueError if the file there is no such table, OSError if the folder cannot be written."""
        folder.path.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder.table
        self._files = [Lines(folder.table, TABLE)]
        if folder.histograms.exists():
            self._files.append(_histograms(folder))

    @property
    def tallies(self) -> dict[int, Tally]:
        """Of each seed's rows in the table."""
        return self._files[0].tallies

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None:
        """Raises metrics.Undeclared for a name that nobody declared."""
        for name, value in values.items():
            declared(name)
            self._files[0].log(Row(int(seed), int(step), name, float(value)))
        for name, (counts, _) in (histograms or {}).items():
            if len(self._files) == 1:
                self._files.append(_histograms(self.folder))
            self._files[1].log(Row(int(seed), int(step), name, counts))

    def flush(self) -> None:
        for file in self._files:
            file.flush()

    def rewind(self, step: int, seeds: Collection[int]) -> None:
        """Forget every row of these seeds at a later step."""
        for file in self._files:
            file.rewind(step, seeds)

    def settle(self) -> None:
        """Put the lines in the order of steps and seeds, in which one session would have written them."""
        for file in self._files:
            file.settle()

    def close(self, state: str) -> None:
        with ExitStack() as files:
            for file in self._files:
                files.callback(file.close)


def _histograms(folder: RunFolder) -> Lines:
    """The file opened; one that cannot be read is set aside: no number is read from it, and the run goes on."""
    try:
        if folder.histograms.exists():
            HISTOGRAMS.rows(folder.histograms)  # all of it: a later rewind parses every line
        return Lines(folder.histograms, HISTOGRAMS)
    except ValueError as damage:
        aside = folder.histograms.with_name(f"{folder.histograms.name}.damaged-{folder.damaged()}")
        folder.histograms.rename(aside)
        print(f"{str(damage)[:200]}; kept as {aside.name}, and the run goes on", file=sys.stderr)
        return Lines(folder.histograms, HISTOGRAMS)
