"""Image files: on disk, or in a zip archive that is read in place."""

from __future__ import annotations

import functools
import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from bnrepro.data.dataset import DataError

_OUTSIDE = re.compile(r"^[\\/]|^[A-Za-z]:|(^|[\\/])\.\.([\\/]|$)")


class Source(NamedTuple):
    """One image file: on disk, or a member of a zip archive."""

    path: str
    archive: str = ""
    stamp: str = ""  # of a member: its CRC-32 and size

    def __str__(self) -> str:
        name = f"{self.archive}:{self.path}" if self.archive else self.path
        return os.fsencode(name).decode(errors="backslashreplace")  # a name on disk may be any bytes

    def read(self) -> bytes:
        """Raises OSError or zipfile.BadZipFile."""
        if not self.archive:
            return Path(self.path).read_bytes()
        return _opened(self.archive, os.stat(self.archive).st_mtime_ns, os.getpid()).read(self.path)


@functools.lru_cache(maxsize=8)
def _opened(path: str, modified: int, process: int) -> zipfile.ZipFile:
    """Open, with its directory read: a fifth of a second. Threads may share it, forked processes may not."""
    return zipfile.ZipFile(path)


forget_archives = _opened.cache_clear  # half a kilobyte of memory for every member


def members(path: Path) -> dict[str, Source]:
    """Of Tiny ImageNet's archive, by their names relative to where wnids.txt lies. Raises DataError."""
    archive = os.path.abspath(path)
    try:
        infos = _opened(archive, os.stat(archive).st_mtime_ns, os.getpid()).infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a whole zip archive ({error}); download or copy it again") from error
    for info in infos:
        if _OUTSIDE.search(info.filename):
            raise DataError(f"{path}: member {info.filename!r} points outside the archive; do not use it")
    lists = [m.filename for m in infos if f"/{m.filename}".endswith("/wnids.txt")]
    if not lists:
        raise DataError(f"{path}: no wnids.txt in it, so it is not Tiny ImageNet's archive")
    base = min(lists, key=len).removesuffix("wnids.txt")
    return {
        m.filename.removeprefix(base): Source(m.filename, archive, f"{m.CRC:08x}-{m.file_size}")
        for m in infos
        if m.filename.startswith(base)
    }
