"""Jupyter Lab on notebooks/ of the checkout, else on the folder one is in; arguments are Jupyter's."""

import sys
from importlib import import_module
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> int:
    try:
        lab = import_module("jupyterlab.labapp").main  # not in the locked environment
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'bnrepro[notebook]'", file=sys.stderr)
        return 2
    return lab([*sys.argv[1:], str(NOTEBOOKS if NOTEBOOKS.is_dir() else Path.cwd())])


if __name__ == "__main__":
    sys.exit(main())
