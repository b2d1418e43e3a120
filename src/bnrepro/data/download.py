"""What is not there yet, from the net."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError

SECONDS_OF_SILENCE = 10  # torchvision sets no limit of its own


def download(
    cfg: DataConfig, what: str, remedy: str, instead: str, get: Callable[[], object], leaves: list[Path]
) -> None:
    """Run `get`; if it fails, remove those of `leaves` that were not there before, and raise DataError."""
    root = Path(cfg.root)
    print(f"data={cfg.name}: not found in {root}, downloading {what} with torchvision", flush=True)
    new = [path for path in (*leaves, root) if not path.exists()]
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_OF_SILENCE)
    try:
        get()
        new = []
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"data={cfg.name}: cannot download it here; {remedy}, set data.root or BNREPRO_DATA to a folder "
            f"that has it, or use data={instead}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        for path in new:
            if path.is_dir() and (path != root or not any(root.iterdir())):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink()
