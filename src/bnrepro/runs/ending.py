"""How a program that trains ends: one line for people, a status for shells."""

from __future__ import annotations

import sys
import traceback

from bnrepro.config import ConfigError
from bnrepro.config.refusal import one_line
from bnrepro.data import DataError
from bnrepro.machine import WorkerLost, stop_asked
from bnrepro.runs.folder import RunBusy

# What the user can mend: reported in one line, without a traceback.
REFUSALS = (ConfigError, DataError, RunBusy)


def ended_by(error: BaseException, *refusals: type[Exception], resumes: bool = True) -> int:
    """Say in one line why the program ends; its exit status: 128 + signal, 2 for what was refused, 1 for a failure.

    `refusals` are refused as well. What nobody foresaw is printed with its traceback. resumes: whether the same
    command goes on from what is on disk.
    """
    stop = stop_asked(error)
    if stop or isinstance(error, KeyboardInterrupt):
        words = "what was measured is on disk, and the same command goes on from there"
        print(f"\nstopped; {words if resumes else 'nothing was written'}", file=sys.stderr)
        return stop.status if stop else 130
    if isinstance(error, (*REFUSALS, *refusals)):
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError | WorkerLost):
        print(f"error: {one_line(error)}; the same command goes on from what is on disk", file=sys.stderr)
    elif isinstance(error, Exception):
        traceback.print_exception(error)
    else:
        raise error
    return 1
