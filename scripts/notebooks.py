"""Execute notebooks/*.py into the .ipynb beside them, two at a time.

Starting Python and importing the analysis takes longer than most notebooks do, so notebooks share a process:
each starts with an empty session and numbers its cells from 1, but modules are imported once. A notebook that
fails leaves its old .ipynb as it was, and the next one has a new process.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from bnrepro.files import write

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
TRAINS = "14_lab.py"  # not from results/ alone
SECONDS = 600  # that a cell may take
EMPTY = """
import warnings, matplotlib.pyplot, pandas
with warnings.catch_warnings(action="ignore"):  # of pandas, about options that it will not have for long
    matplotlib.pyplot.close("all"), matplotlib.rcdefaults(), pandas.reset_option("all")
get_ipython().reset()
get_ipython().execution_count = 0  # this cell is counted when it ends
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scripts",
        nargs="*",
        type=Path,
        help=f"notebooks as .py files (all of notebooks/ but {TRAINS}, which trains)",
        metavar="FILE",
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="at once (%(default)s)")
    args = parser.parse_args()
    paths = args.scripts or [path for path in sorted(NOTEBOOKS.glob("*.py")) if path.name != TRAINS]
    if odd := [str(path) for path in paths if path.suffix != ".py" or not path.is_file()]:
        parser.error(f"not a notebook's .py file: {', '.join(odd)}")
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    waiting: SimpleQueue[Path] = SimpleQueue()
    for path in paths:
        waiting.put(path)
    with ThreadPoolExecutor(args.jobs) as pool:  # threads only wait: the work is done in the kernels
        try:
            failed = sum(pool.map(work, [waiting] * min(args.jobs, len(paths))))
        except KeyboardInterrupt:
            print("notebooks: interrupted; those not done stay as they were", file=sys.stderr, flush=True)
            os._exit(130)  # threads cannot be stopped; a kernel ends by itself when its parent is gone
    return 1 if failed else 0


def take(waiting: SimpleQueue[Path]) -> Path | None:
    with suppress(Empty):
        return waiting.get_nowait()
    return None


def work(waiting: SimpleQueue[Path]) -> int:
    """Execute notebooks until none is waiting; the number of those that failed."""
    failed, client = 0, None
    with ExitStack() as running:
        while path := take(waiting):
            if client is None:
                client = NotebookClient(new_notebook(), kernel_name="python3", timeout=SECONDS)
                client.record_timing, client.extra_arguments = False, ["--log-level=ERROR"]
                running.enter_context(client.setup_kernel(cwd=str(NOTEBOOKS)))
            begin = time.monotonic()
            try:
                write(path.with_suffix(".ipynb"), executed(path, client))
                print(f"{path.with_suffix('.ipynb')}  {time.monotonic() - begin:.0f} s", flush=True)
            except (CellExecutionError, CellControlSignal, DeadKernelError) as error:  # also: out of time
                failed += 1
                print(f"notebooks: {path} failed:\n{error}", file=sys.stderr, flush=True)
                running.close()
                client = None
    return failed


def executed(path: Path, client: NotebookClient) -> str:
    """The notebook of the script `path`, executed, as the text of an .ipynb."""
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # drawn at random otherwise
    for each in (new_notebook(cells=[new_code_cell(EMPTY)]), notebook):
        client.nb = each
        client.execute(cleanup_kc=False)
    return jupytext.writes(notebook, fmt="ipynb")


if __name__ == "__main__":
    sys.exit(main())
