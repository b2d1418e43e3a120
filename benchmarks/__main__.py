"""Measure one row in this process, print it as one JSON line: `python -m benchmarks eager --steps 1000`."""

from __future__ import annotations

import argparse
import json
from importlib import import_module

from benchmarks import IMAGE_ROWS, ROWS

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("row", choices=ROWS | IMAGE_ROWS)
    parser.add_argument(
        "--steps", type=int, default=1000, help="timed steps, at least (default: %(default)s)"
    )
    args = parser.parse_args()
    module, function, arguments = (ROWS | IMAGE_ROWS)[args.row]
    result = getattr(import_module(f"benchmarks.{module}"), function)(args.steps, **arguments)
    print(json.dumps({"row": args.row} | result))
