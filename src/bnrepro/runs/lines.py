"""Files of lines "seed,step,name,...": read strictly, appended to so that a crash loses nothing that was flushed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from bnrepro import files
from bnrepro.measure.metrics import BINS


class Row(NamedTuple):
    seed: int
    step: int
    name: str
    value: Any


class Form(NamedTuple):
    """What the lines of a file look like."""

    title: str  # of the file, for messages
    header: str
    value: Callable[[str], Any]  # of the last column's text; ValueError for what is none
    text: Callable[[Any], str]

    def line(self, row: Row) -> str:
        return f"{row.seed},{row.step},{row.name},{self.text(row.value)}\n"

    def rows(self, path: Path) -> list[Row]:
        """In the order in which they were written. A last line cut off by a crash is left out.

        Raises FileNotFoundError, or ValueError naming file and line if the file is no such table.
        """
        return [self.parse(line, path, i) for i, line in enumerate(self.whole(path)[1:], 2)]

    def whole(self, path: Path) -> list[str]:
        """Lines that end in a line break; a last one without was torn, even where it happens to parse."""
        *lines, _torn = path.read_bytes().split(b"\n")
        text = [line.decode(errors="replace") + "\n" for line in lines]
        if text and text[0] != self.header:
            raise ValueError(f"{path} is not {self.title}: its first line is not {self.header.strip()!r}")
        return text

    def parse(self, line: str, path: Path, number: int) -> Row:
        try:
            seed, step, name, value = line.rstrip("\n").split(",")
            return Row(int(seed), int(step), name, self.value(value))
        except ValueError:
            raise ValueError(
                f"{path}, line {number} is not {self.header.strip()!r}: {line.strip()!r}"
            ) from None


TABLE = Form("a run's table", "seed,step,name,value\n", float, repr)


def _counts(text: str) -> list[int]:
    found = [int(count) for count in text.split(" ")]
    if len(found) != BINS:
        raise ValueError(f"{len(found)} counts")
    return found


HISTOGRAMS = Form(
    "a run's histograms", "seed,step,name,counts\n", _counts, lambda counts: " ".join(map(str, counts))
)


class Tally(NamedTuple):
    """Of one seed's rows: how many there are, and a checksum that does not depend on their order."""

    rows: int = 0
    checksum: int = 0

    def plus(self, line: str) -> Tally:
        digest = hashlib.blake2b(line.encode(), digest_size=8).digest()
        return Tally(self.rows + 1, (self.checksum + int.from_bytes(digest)) % 2**64)


class Lines:
    """Crash-safe appending to one file."""

    def __init__(self, path: Path, form: Form) -> None:
        """Raises ValueError if the file there is no such table, OSError if the folder cannot be written."""
        self.path, self.form = path, form
        self.tallies: dict[int, Tally] = {}  # of what is in the file
        self._pending: list[str] = []
        written = path.read_bytes() if path.exists() else b""
        kept = form.whole(path) if written else [form.header]
        self._replace(kept or [form.header], written)

    def log(self, row: Row) -> None:
        self._pending.append(self.form.line(row))

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
        self.tallies = _counted(self._pending, self.tallies)
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

    def close(self) -> None:
        if self._file.closed:  # it could not be rewritten: that error is the one to be said
            return
        try:
            self.flush()
        finally:
            self._file.close()

    def _rewrite(self, change: Any) -> None:
        self._file.close()
        header, *lines = self.form.whole(self.path)
        rows = [(self.form.parse(line, self.path, i), line) for i, line in enumerate(lines, 2)]
        self._replace([header, *change(rows)], self.path.read_bytes())

    def _replace(self, lines: list[str], written: bytes) -> None:
        if (data := "".join(lines).encode()) != written:
            files.write(self.path, data)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115, open until close()
        self.tallies = _counted(lines[1:], {})


def _counted(lines: list[str], before: dict[int, Tally]) -> dict[int, Tally]:
    """A new dictionary: a signal in the midst of it leaves no tally that is half counted."""
    found = dict(before)
    for line in lines:
        seed = int(line.split(",", 1)[0])
        found[seed] = found.get(seed, Tally()).plus(line)
    return found
