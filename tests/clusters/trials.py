"""What trials on clusters share: the sweep, and what it must leave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m"]
SWEEP = [  # 8 packs
    "variant=baseline,bn",
    "model.activation=sigmoid,relu",
    "data.batch_size=30,60",
    "train.steps=20000",
    "eval.probe=false",
]
PATIENCE = 540  # seconds for anything that is waited for


class Disagreement(AssertionError):
    """What a cluster left is not what it should be."""


def train(settings: list[str]) -> subprocess.Popen:
    # A shell starts what it leaves in the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*TRAIN, *settings], **pipes)


def ended(process: subprocess.Popen) -> tuple[str, int]:
    return process.communicate(timeout=PATIENCE)[0], process.returncode


def finished(process: subprocess.Popen) -> None:
    out, status = ended(process)
    agree(status == 0, f"exit status {status}:\n{out}")


def tables(outputs: Path) -> dict[str, bytes]:
    return {
        str(path.parent.relative_to(outputs)): path.read_bytes() for path in outputs.glob("*/*/*/table.csv")
    }


def same(outputs: Path, expected: dict[str, bytes]) -> None:
    found = tables(outputs)
    agree(bool(found), f"no tables in {outputs}")
    for name, table in found.items():
        agree(table == expected[name], f"{outputs / name}: not the bytes of an undisturbed run")
    for path in outputs.glob("*/*/*/run.json"):
        state = json.loads(path.read_text())["state"]
        agree(state == "finished", f"{path} says {state}")


def until(look: Callable[[], list], what: str) -> list:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        agree(time.monotonic() < end, f"not within {PATIENCE} s: {what}")
        time.sleep(0.2)
    return found


def agree(holds: bool, words: str) -> None:
    if not holds:
        raise Disagreement(words)


def words(trial: Callable) -> str:
    return trial.__name__.replace("_", " ")
