"""The program `bnrepro`: `bnrepro NAME ...` is `python scripts/NAME.py ...`, without a checkout as well."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

from bnrepro import __version__
from bnrepro.config.checks import nearest
from bnrepro.files import ROOT, shipped

# They work on what only a checkout has: docs/, notebooks/, benchmarks/, results/ of the whole study.
OF_A_CHECKOUT = ("benchmark", "notebooks", "study", "website")
# What the extra `train` brings.
TRAIN = ("hydra", "jax", "mlxtend", "omegaconf", "rich", "torch", "torchvision", "wandb")
DEV = ("jupytext", "nbclient", "nbformat", "ipykernel", "psutil", "threadpoolctl")


def main() -> int:
    scripts = {path.stem: path for path in sorted(shipped("scripts").glob("*.py"))}
    commands = [name for name in scripts if ROOT or name not in OF_A_CHECKOUT]
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(listing([scripts[command] for command in commands]))
    elif name == "--version":
        print(f"bnrepro {__version__}")
    elif name in commands:
        return run(scripts[name], arguments)
    elif name in scripts:
        return refused(f"{name} works on the repository's own files: git clone it, and run it there")
    else:
        return refused(f"no command {name}{nearest(name, commands)}; there are {', '.join(commands)}")
    return 0


def refused(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def listing(scripts: list[Path]) -> str:
    """The commands, each with the first line of its script's docstring."""
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in scripts}
    lines = [f"  {name:16s} {(doc or '').partition(chr(10))[0]}" for name, doc in docs.items()]
    head = "usage: bnrepro COMMAND ...    bnrepro COMMAND --help    bnrepro --version\n"
    foot = "\nWhere a text says python scripts/NAME.py, bnrepro NAME does the same."
    return "\n".join([head, *lines, foot])


def run(script: Path, arguments: list[str]) -> int:
    """Run it as the main program, which processes that it starts will look for: see pickle and multiprocessing."""
    program = ModuleType("__main__")
    program.__file__ = str(script)
    sys.modules["__main__"] = program
    sys.argv[:] = [f"bnrepro {script.stem}", *arguments]
    try:
        exec(compile(script.read_bytes(), script, "exec"), program.__dict__)
    except ModuleNotFoundError as error:
        lacking = (error.name or "").partition(".")[0]
        if lacking not in TRAIN + DEV:
            raise
        extra = "train" if lacking in TRAIN else "dev"
        return refused(f"bnrepro {script.stem} needs {lacking}: pip install 'bnrepro[{extra}]'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
