"""Files that are written whole or not at all, one process at a time, and where those lie that come with the code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

_HERE = Path(__file__).resolve().parent
ROOT = None if (_HERE / "conf").is_dir() else _HERE.parents[1]  # of the checkout, where this is one


def shipped(name: str) -> Path:
    """A folder that comes with the code: at the top of the checkout, inside the package where that is installed."""
    return (ROOT or _HERE) / name


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError of this block says which file it is about: a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, all of it, and never when the block fails.

    Whenever the machine stops, `path` holds all of the old bytes or all of the new ones.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with named(path), open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name itself must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path: Path, content: bytes | str) -> None:
    """`content` (text as UTF-8) in a file, its folder included: see `replacing`."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


class Busy(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, busy: Callable[[], None] | None = None) -> Iterator[None]:
    """No other process is in such a block of the same `path`: an empty file, which stays.

    If another is, `busy` is called and waited for; without `busy`, raises Busy at once. The kernel lets go
    when the process ends, however it ends; a forked child neither holds the lock nor lets it go. Raises
    OSError if the file cannot be opened.
    """
    # Preserved: were the file deleted, two processes could each lock a file of this name. It also rules out
    # filelock's "soft" locks, for disks that know no others: those outlive a killed process.
    lock = FileLock(path, preserve_lock_file=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if busy is None:
            raise Busy(f"another process holds {path}") from None
        busy()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
