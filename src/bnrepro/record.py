"""What a run leaves behind: its table (the truth), its state, its lock. Neither torch nor hydra is imported.

A run's folder holds `table.csv` with one measured number a line,

    seed,step,name,value
    0,100,test/accuracy,0.9127

written so that a run which is killed and resumed ends with the same bytes as one which never stopped: values
are written with repr() and read back exactly; lines reach the disk before the checkpoint of their step does
(`flush`); a resumed run first drops every line past its checkpoint (`rewind`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from bnrepro.files import write

HEADER = "seed,step,name,value\n"

Values = Mapping[str, float]
Histogram = tuple[list[int], list[float]]  # counts, edges: one edge more than counts
Histograms = Mapping[str, Histogram]


class Row(NamedTuple):
    seed: int
    step: int
    name: str
    value: float


class Recorder(Protocol):
    """Where the training loop puts its numbers. Rows of steps <= s are logged before the flush of step s."""

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None: ...

    def flush(self) -> None:
        """Once per evaluation, before the checkpoint of that step: all that was logged is on disk."""
        ...

    def rewind(self, step: int) -> None:
        """On resume, before anything is logged: forget every row of a later step (-1 forgets them all)."""
        ...

    def close(self, state: str) -> None:
        """`state` is finished, interrupted or failed."""
        ...


class LocalTable:
    """Crash-safe appending to `run_dir/table.csv`. Histograms are left out: percentiles are rows."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ValueError if the file there is no such table, OSError if the folder cannot be written."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / "table.csv"
        self._pending: list[str] = []
        written = self.path.read_bytes() if self.path.exists() else b""
        kept = _whole_lines(self.path) if written else [HEADER]
        self._replace(kept or [HEADER], written)

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None:
        for name, value in values.items():
            if any(c in name for c in ',"\r\n'):
                raise ValueError(f"a metric's name holds no comma, quote or line break: {name!r}")
            self._pending.append(f"{int(seed)},{int(step)},{name},{float(value)!r}\n")

    def flush(self) -> None:
        lines, self._pending = "".join(self._pending), []
        self._file.write(lines.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def rewind(self, step: int) -> None:
        self._pending.clear()
        self._file.close()
        header, *lines = _whole_lines(self.path)
        kept = [line for i, line in enumerate(lines, 2) if _parse(line, self.path, i).step <= step]
        self._replace([header, *kept], self.path.read_bytes())

    def close(self, state: str) -> None:
        self.flush()
        self._file.close()

    def _replace(self, lines: list[str], written: bytes) -> None:
        if (data := "".join(lines).encode()) != written:
            write(self.path, data)
        self._file = open(self.path, "ab")  # noqa: SIM115, open until close()


class Mirrored:
    """Several recorders behind one face, the local table first: no mirror is ahead of the disk."""

    def __init__(self, *recorders: Recorder) -> None:
        self.recorders = recorders

    def log(self, step: int, seed: int, values: Values, histograms: Histograms | None = None) -> None:
        for recorder in self.recorders:
            recorder.log(step, seed, values, histograms)

    def flush(self) -> None:
        for recorder in self.recorders:
            recorder.flush()

    def rewind(self, step: int) -> None:
        for recorder in self.recorders:
            recorder.rewind(step)

    def close(self, state: str) -> None:
        for recorder in self.recorders:
            recorder.close(state)


def open_recorder(run_dir: Path, config: Mapping[str, Any], seeds: list[int]) -> Recorder:
    """The local table, with a W&B mirror if `config["record"]["wandb"]` is "offline" or "online"."""
    mode = config["record"]["wandb"]
    if mode not in ("off", "offline", "online"):
        raise ValueError(f"record.wandb is off, offline or online, not {mode!r}")
    table = LocalTable(run_dir)
    if mode == "off":
        return table
    from bnrepro.mirror import WandbMirror

    return Mirrored(table, WandbMirror(run_dir, config, seeds))


def read_table(path: Path) -> list[Row]:
    """All rows in the order they were written. A last line cut off by a crash is left out.

    Raises FileNotFoundError, or ValueError naming file and line if the file is no such table.
    """
    return [_parse(line, path, i) for i, line in enumerate(_whole_lines(path)[1:], 2)]


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


def write_status(run_dir: Path, state: str, provenance: Mapping[str, Any]) -> None:
    """`run.json`: whether the run is running, finished, interrupted or failed, and what made it."""
    status = {"state": state, "provenance": dict(provenance)}
    write(run_dir / "run.json", json.dumps(status, indent=2) + "\n")


class RunBusy(RuntimeError):
    """Another process works in this run's folder."""


class RunLock:
    """Context manager: one process per run folder. The kernel lets go when the process ends, however it ends.

    The lock file stays behind on purpose: removing it would let two processes lock two files of one name.
    A forked child shares the lock (it is held until the last of them ends); a spawned one does not.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def __enter__(self) -> Self:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._file = open(self.run_dir / "lock", "ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RunBusy(f"{self.run_dir}: another process is working on this run") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
