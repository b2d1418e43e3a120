"""Where a run came from: command, commit, versions, machine. Reads package metadata, imports no package."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnrepro.config import PATHS

PACKAGES = (
    "bnrepro",
    "torch",
    "torchvision",
    "numpy",
    "hydra-core",
    "omegaconf",
    "wandb",
    "mlxtend",
    "jax",
    "jaxlib",
)
CODE = (
    ":/src",
    ":/scripts",
    ":/conf",
    ":/benchmarks",
    ":/requirements.lock",
)  # ":/" counts from the top of the repository


def provenance(command: list[str], device: str) -> dict[str, Any]:
    """What `run.json` says of a run's origin, as plain JSON values.

    `commit` and `dirty` are None outside a git checkout of this project. `dirty` looks at the code and the
    configuration only: a table or a notebook made since the commit does not change what a run computes.
    """
    commit, dirty = code_state()
    return {
        "command": shlex.join(map(_without_path, command)),
        "commit": commit,
        "dirty": dirty,
        "versions": {"python": platform.python_version()} | _versions(),
        "device": device,
        "hardware": f"{_cpu()}, {os.cpu_count()} cores",
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _without_path(argument: str) -> str:
    """data.root=<folder>/images -> data.root=…/images: provenance is published, a machine's folders are not.

    So are the values of options: --out <folder>/table, --out=<folder>/table.
    """
    key, sign, value = argument.partition("=") if "=" in argument else ("", "", argument)
    names_a_path = key in PATHS or key.startswith("-") or not sign
    path = value.strip("\"'")
    private = names_a_path and path.startswith(("/", "~", ".."))
    return f"{key}{sign}…/{Path(path).name}" if private else argument


@functools.cache  # the code a process runs is the code it started with, whatever is edited meanwhile
def code_state() -> tuple[str | None, bool | None]:
    """The commit this process started from, and whether code or configuration had uncommitted changes."""
    commit = _commit()
    changes = None if commit is None else _git("status", "--porcelain", "--", *CODE)
    return commit, None if changes is None else bool(changes)


def _commit() -> str | None:
    # A file git does not track is a copy installed inside somebody else's repository: not our commit.
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return _git("rev-parse", "HEAD") if tracked else None


def _git(*arguments: str) -> str | None:
    """git's answer, stripped; None without git, outside a repository or before the first commit."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
