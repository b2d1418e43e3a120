"""Speed of training: this project, the usual ways, and the machine's limit.

The rows of the 3x100 sigmoid net, or with --images those of Inception and of decoding.

Each row is measured in a process of its own (`python -m benchmarks ROW`); a round measures all rows one after
another, and ratios are taken within a round, so that a machine that slows down slows both sides. Writes
speed.csv or images.csv (mean and standard deviation over rounds) and prints it as a Markdown table.

The limit is what all cores together reach in large float32 products with the best of numpy's OpenBLAS, oneDNN
and torch.mm, OpenBLAS with its own choice of kernel; column `limit_gflops` gives it. Until November 2026 it
was a row `sgemm` (190 GFLOP/s in the published table): the better of torch.mm and of OpenBLAS with whatever
kernel the environment names. Some machines name one that runs at half speed, so that it was half a limit
there: a `fraction_of_sgemm` of old is not to be compared with a `fraction_of_limit`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import IMAGE_ROWS, OPENBLAS_ROWS, ROWS  # noqa: E402  (beside scripts/, not installed)
from bnrepro.runs.provenance import provenance  # noqa: E402

UNITS = {
    "images_per_s": "images/s",
    "ratio_to_reference": "x DataLoader loop of files",
    "replica_steps_per_s": "replica-steps/s",
    "ratio_to_dataloader": "x DataLoader loop",
    "fraction_of_limit": "of the limit",
    "limit_gflops": "GFLOP/s",
    "percent": "% of training time",
    "seconds": "s",
    "mib": "MiB",
}
DIGITS = {"replica_steps_per_s": 0, "limit_gflops": 0, "fraction_of_limit": 3}  # after the point; others: 1
BUSY = 0.7  # load average of the last minute above which other programs disturb the measurement
# What a user's shell may set for BLAS and OpenMP: each row decides for itself.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Some machines set these: OpenBLAS then runs at half its speed, and a limit measured with it is none.
KERNEL = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def environment(row: str) -> dict[str, str]:
    """The environment in which a row is measured."""
    removed = THREADS + (KERNEL if row in OPENBLAS_ROWS else ())
    return {k: v for k, v in os.environ.items() if k not in removed}


def measure(row: str, steps: int) -> dict:
    """One row in a fresh process; an "error" instead of numbers when it fails."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", row, "--steps", str(steps)]
    done = subprocess.run(command, cwd=ROOT, env=environment(row), capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Refused)\b", line)] or lines
        return {"row": row, "error": named[-1] if named else f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def with_ratios(rows: list[dict]) -> list[dict]:
    """One round's rows, each rate also relative to that round's limit and to its usual loop, if measured."""
    of = {row["row"]: row for row in rows}
    for quantity, ratio, base in (
        ("replica_steps_per_s", "ratio_to_dataloader", "dataloader"),
        ("replica_steps_per_s", "fraction_of_limit", "limit"),
        ("images_per_s", "ratio_to_reference", "images-reference"),
        ("images_per_s", "ratio_to_reference", "images-reference-32px"),
        ("images_per_s", "fraction_of_limit", "images-limit"),
    ):
        for row in rows:
            if base in of and quantity in row and _comparable(row["row"], base):
                row[ratio] = row[quantity] / of[base][quantity]
    return rows


def _comparable(row: str, base: str) -> bool:
    """Whether both are about the same net and images: in images.csv training, of one size."""
    if not base.startswith("images-"):
        return True
    return row.startswith("images-") and row.endswith("-32px") == base.endswith("-32px")


def summary(measured: list[dict]) -> pd.DataFrame:
    """One line a row: n rounds, mean and std of every quantity, the last round's note."""
    frame = pd.DataFrame(measured)
    quantities = [name for name in UNITS if name in frame]
    by_row = frame.groupby("row", sort=False)
    columns = {"n": by_row.size()}
    for name in quantities:
        columns |= {name: by_row[name].mean(), f"{name}_std": by_row[name].std(ddof=1)}
    return pd.DataFrame(columns | {"note": by_row["note"].last()}).reset_index()


def markdown(table: pd.DataFrame, facts: dict, steps: int, load: float) -> str:
    """The summary as Markdown, mean ± std, under a line that says where and when it was measured."""
    names = [name for name in UNITS if name in table]

    def cell(line: dict, name: str) -> str:
        mean, std = line[name], line[f"{name}_std"]
        digits = DIGITS.get(name, 1)
        spread = "" if math.isnan(std) else f" ± {std:.{digits}f}"
        return "" if math.isnan(mean) else f"{mean:.{digits}f}{spread}"

    header = ["row", "n", *(UNITS[name] for name in names), "note"]
    lines = [header, ["---"] * len(header)]
    for line in table.to_dict("records"):
        lines.append([line["row"], line["n"], *(cell(line, name) for name in names), line["note"]])
    known = facts["versions"]
    versions = [f"{name} {known[name]}" for name in ("python", "torch", "numpy", "jax") if name in known]
    where = [facts["hardware"], facts["device"], *versions, facts["date"], f">= {steps} timed steps a round"]
    where += [f"load before {load:.1f}"] + (["BUSY: not to be reported"] if load > BUSY else [])
    title = f"Mean ± std over n rounds. {', '.join(where)}."
    return "\n".join([title, "", *(f"| {' | '.join(map(str, cells))} |" for cells in lines)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="times that every row is measured (%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="start no further round that would end later (%(default)g)"
    )
    parser.add_argument(
        "--steps", type=int, default=1000, help="timed steps of a row and round, at least (%(default)s)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS | IMAGE_ROWS,
        metavar="ROW",
        help=" ".join(ROWS | IMAGE_ROWS),
    )
    parser.add_argument("--images", action="store_true", help="the rows of colour images")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the table (results/benchmarks; for some rows or a busy machine outputs/benchmarks)",
    )
    args = parser.parse_args()
    group = list(IMAGE_ROWS if args.images else ROWS)
    args.rows = args.rows or group
    file = "images.csv" if args.images else "speed.csv"
    if args.rounds < 1 or args.steps < 10:
        parser.error("--rounds must be at least 1 and --steps at least 10")
    if not args.minutes > 0:
        parser.error("--minutes must be above 0")

    console, measured, failed, begin = Console(stderr=True), [], {}, time.monotonic()
    load = os.getloadavg()[0]
    if load > BUSY:
        console.print(
            f"warning: the machine is busy (load {load:.1f}): every number below will be too low, and "
            "not all by the same factor",
            style="yellow",
        )
    publishable = args.rows == group and load <= BUSY
    out = args.out or ROOT / ("results" if publishable else "outputs") / "benchmarks"
    try:  # before a quarter of an hour is measured
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {out}: {error.strerror}")
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True) as progress:
        task = progress.add_task("", total=args.rounds * len(args.rows))
        for number in range(1, args.rounds + 1):
            if (time.monotonic() - begin) * number > args.minutes * 60 * max(1, number - 1):
                console.print(
                    f"{number - 1} rounds measured; another would take more than {args.minutes:g} minutes"
                )
                break
            rows = []
            for name in args.rows:
                progress.update(task, description=f"round {number}: {name}")
                rows.append(row := measure(name, args.steps))
                if "error" in row:
                    failed[name] = row["error"]
                    progress.console.print(f"{name} failed: {row['error']}", style="red", markup=False)
                progress.advance(task)
            measured += with_ratios([row for row in rows if "error" not in row])
    if measured:
        facts = provenance(["scripts/benchmark.py", *sys.argv[1:]], device_name())
        table = summary(measured)
        columns = {name: facts[name] for name in ("command", "commit", "dirty", "hardware", "device", "date")}
        table.assign(steps=args.steps, load_before=load, **columns).to_csv(
            out / file, index=False, float_format="%.6g"
        )
        print(markdown(table, facts, args.steps, load))
        print(f"\nwritten: {out / file}")
    return 1 if failed else 0


def device_name() -> str:
    """The accelerator's name, asked of torch in a process of its own, or "cpu"."""
    question = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')"
    return (
        subprocess.run([sys.executable, "-c", question], capture_output=True, text=True).stdout.strip()
        or "cpu"
    )


if __name__ == "__main__":
    sys.exit(main())
