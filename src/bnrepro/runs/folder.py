"""A run's folder: the one owner of the names of the files in it. Neither torch nor hydra is imported.

    config.yaml     the run's settings, resolved
    table.csv       one measured number a line: seed,step,name,value. The truth: figures read nothing else
    run.json        state (running, finished, interrupted, failed, damaged), seeds that are finished, provenance
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

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bnrepro import files
from bnrepro.config import Config, ConfigError
from bnrepro.config.address import place
from bnrepro.measure.metrics import declared

HEADER = "seed,step,name,value\n"

Values = Mapping[str, float]
Histogram = tuple[list[int], list[float]]  # counts, edges: one edge more than counts
Histograms = Mapping[str, Histogram]


class Row(NamedTuple):
    seed: int
    step: int
    name: str
    value: float


class RunBusy(RuntimeError):
    """Another process works in this run's folder."""


class Damaged(ValueError):
    """A file of the folder does not hold what the run wrote into it; the message says which, and how one sees."""


class Tally(NamedTuple):
    """Of one seed's rows: how many there are, and a checksum that does not depend on their order."""

    rows: int = 0
    checksum: int = 0

    def plus(self, line: str) -> Tally:
        digest = hashlib.blake2b(line.encode(), digest_size=8).digest()
        return Tally(self.rows + 1, (self.checksum + int.from_bytes(digest)) % 2**64)


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.table = self.path / "table.csv"
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

    def write_status(self, state: str, seeds: Collection[int], provenance: Mapping[str, Any]) -> None:
        """`seeds`: those that are finished."""
        status = {"state": state, "seeds": sorted(seeds), "provenance": dict(provenance)}
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

    def wait(self) -> None:
        """Until no other process works on this run."""
        with files.locked(self.path / "lock", busy=lambda: None):
            pass

    def tallies(self, steps: Mapping[int, int]) -> dict[int, Tally]:
        """Of each seed's rows up to its step. Raises Damaged for a file that is no run's table."""
        found = dict.fromkeys(steps, Tally())
        try:
            lines = _whole_lines(self.table)[1:] if self.table.exists() else []
            for number, line in enumerate(lines, 2):
                row = _parse(line, self.table, number)
                if row.step <= steps.get(row.seed, -1):
                    found[row.seed] = found[row.seed].plus(line)
        except ValueError as error:
            raise Damaged(str(error)) from None
        return found

    def set_aside(self) -> list[str]:
        """Rename table and checkpoint to <name>.damaged-N, so that the run can start over; their new names."""
        number = 1 + len(list(self.path.glob("*.damaged-*")))
        moved = []
        for path in (self.table, self.checkpoint):
            if path.exists():
                moved.append(f"{path.name}.damaged-{number}")
                path.rename(path.with_name(moved[-1]))
        return moved

    def rows(self) -> list[Row]:
        """The table in the order in which it was written. A last line cut off by a crash is left out.

        Raises FileNotFoundError, or ValueError naming file and line if the file is no such table.
        """
        return [_parse(line, self.table, i) for i, line in enumerate(_whole_lines(self.table)[1:], 2)]


class Table:
    """Crash-safe appending to a run's table. Histograms are left out: percentiles are rows."""

    def __init__(self, folder: RunFolder) -> None:
        """Raises ValueError if the file there is no such table, OSError if the folder cannot be written."""
        folder.path.mkdir(parents=True, exist_ok=True)
        self.path = folder.table
        self.tallies: dict[int, Tally] = {}  # of what is in the file
        self._pending: list[str] = []
        written = self.path.read_bytes() if self.path.exists() else b""
        kept = _whole_lines(self.path) if written else [HEADER]
        self._replace(kept or [HEADER], written)

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None:
        """Raises metrics.Undeclared for a name that nobody declared."""
        for name, value in values.items():
            declared(name)
            self._pending.append(f"{int(seed)},{int(step)},{name},{float(value)!r}\n")

    def flush(self) -> None:
        left, size = memoryview("".join(self._pending).encode()), os.fstat(self._file.fileno()).st_size
        with files.named(self.path):
            try:
                while left:
                    left = left[self._file.write(left) :]
                os.fsync(self._file.fileno())
            except OSError:
                os.ftruncate(self._file.fileno(), size)  # all of it or nothing: it is written again
                raise
        self._count(self._pending)
        self._pending = []

    def rewind(self, step: int, seeds: Collection[int]) -> None:
        """Forget every row of these seeds at a later step."""
        self._pending.clear()
        self._rewrite(lambda rows: [line for row, line in rows if row.seed not in seeds or row.step <= step])

    def settle(self) -> None:
        """Put the lines in the order of steps and seeds, in which one session would have written them."""
        self.flush()
        self._rewrite(
            lambda rows: [line for _, line in sorted(rows, key=lambda pair: (pair[0].step, pair[0].seed))]
        )

    def close(self, state: str) -> None:
        try:
            self.flush()
        finally:
            self._file.close()

    def _rewrite(self, change: Any) -> None:
        self._file.close()
        header, *lines = _whole_lines(self.path)
        rows = [(_parse(line, self.path, i), line) for i, line in enumerate(lines, 2)]
        self._replace([header, *change(rows)], self.path.read_bytes())

    def _count(self, lines: list[str]) -> None:
        for line in lines:
            seed = int(line.split(",", 1)[0])
            self.tallies[seed] = self.tallies.get(seed, Tally()).plus(line)

    def _replace(self, lines: list[str], written: bytes) -> None:
        self.tallies = {}
        self._count(lines[1:])
        if (data := "".join(lines).encode()) != written:
            files.write(self.path, data)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115, open until close()


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a line break; a last one without was torn, even where it happens to parse."""
    *lines, _torn = path.read_bytes().split(b"\n")
    text = [line.decode(errors="replace") + "\n" for line in lines]
    if text and text[0] != HEADER:
        raise ValueError(f"{path} is not a run's table: its first line is not {HEADER.strip()!r}")
    return text


def _parse(line: str, path: Path, number: int) -> Row:
    try:
        seed, step, name, value = line.rstrip("\n").split(",")
        return Row(int(seed), int(step), name, float(value))
    except ValueError:
        raise ValueError(f"{path}, line {number} is not {HEADER.strip()!r}: {line.strip()!r}") from None
