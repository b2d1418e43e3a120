"""Jupyter Lab on notebooks/ of the checkout, else on the folder one is in; arguments are Jupyter's."""

import sys
from importlib import import_module
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> int:
    lab = import_module("jupyterlab.labapp").main  # of the extra notebook, which the locked environment lacks
    return lab([*sys.argv[1:], str(NOTEBOOKS if NOTEBOOKS.is_dir() else Path.cwd())])


if __name__ == "__main__":
    sys.exit(main())
