"""The shape of the house: who may import whom, how long a file may grow, what committed text may not hold."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PLOTTING = {"matplotlib", "seaborn", "plotly"}
ANALYSIS = {"pandas", "pyarrow", *PLOTTING, "bnrepro.results", "bnrepro.claims", "bnrepro.figures"}
TRAINING_STACK = {"torch", "torchvision", "lightning", "hydra", "omegaconf", "wandb"}

# files of src/bnrepro (a glob): what they must not import
FORBIDDEN = {
    "norm.py": {"bnrepro", "hydra", "wandb", *ANALYSIS},
    "config.py": {"hydra", "wandb", "torch", *ANALYSIS},
    "data/*.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "optim.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "probe.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "diagnostics.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "evaluate.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "replicas.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "drives.py": {"hydra", "omegaconf", "wandb", "bnrepro.train", *ANALYSIS},
    "record.py": {"torch", "torchvision", "hydra", "omegaconf"},
    "mirror.py": {"torch", "torchvision", "hydra", "omegaconf"},
    "train.py": {"hydra", "omegaconf", "wandb", *ANALYSIS},
    "results.py": TRAINING_STACK,
    "collect.py": TRAINING_STACK,
    "report.py": TRAINING_STACK,
    "claims/*.py": TRAINING_STACK,
    "figures/*.py": TRAINING_STACK,
    "effects/*.py": TRAINING_STACK,
}
MODELS_MAY_USE = ("bnrepro.norm", "bnrepro.config", "bnrepro.streams", "bnrepro.models")


def imported(source: str, module: str = "bnrepro.x", package: bool = False) -> set[str]:
    """Every name `source` imports, wherever it stands in the file, as absolute dotted names.

    `from a import b` counts as a and a.b (b may be a module); relative imports are resolved against `module`.
    """
    found: set[str] = set()
    parents = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {
                a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)
            }
    return found


def imports_of(path: Path) -> set[str]:
    module = ".".join(path.relative_to(SRC).with_suffix("").parts) if SRC in path.parents else path.stem
    return imported(path.read_text(), module.removesuffix(".__init__"), path.name == "__init__.py")


def within(names: set[str], tops: set[str] | tuple[str, ...]) -> set[str]:
    """Those names that are one of `tops` or lie inside one."""
    return {n for n in names if any(n == top or n.startswith(top + ".") for top in tops)}


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_a_module_imports_nothing_it_must_not(pattern: str) -> None:
    paths = sorted((SRC / "bnrepro").glob(pattern))
    assert paths
    for path in paths:
        assert not within(imports_of(path), FORBIDDEN[pattern]), path.name


def test_models_know_only_norm_config_and_random_streams() -> None:
    for path in sorted((SRC / "bnrepro/models").glob("*.py")):
        ours = within(imports_of(path), {"bnrepro"}) - {"bnrepro"}
        assert ours == within(ours, MODELS_MAY_USE), path.name


def test_wandb_is_imported_in_the_mirror_only() -> None:
    users = {path.name for path in python_files("src", "scripts") if within(imports_of(path), {"wandb"})}
    assert users <= {"mirror.py"}


def test_nothing_imports_scripts() -> None:
    scripts = {path.stem for path in python_files("scripts")}
    for path in python_files("src", "benchmarks", "tests", "notebooks"):
        names = imports_of(path)
        assert not within(names, {"scripts"}), path.name
        if path.parent.name in ("tests", "notebooks"):  # there a bare name could only mean a script
            assert not scripts & {name for name in names if "." not in name}, path.name


def test_the_package_does_not_import_the_benchmark() -> None:
    for path in python_files("src"):
        assert not within(imports_of(path), {"benchmarks"}), path.name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    import wandb.sdk as w", "wandb.sdk"),
        ("from . import train", "bnrepro.train"),
        ("from .data import load", "bnrepro.data"),
        ("import importlib\nimportlib.import_module('hydra')", "hydra"),
    ],
)
def test_the_walk_sees_lazy_relative_and_dynamic_imports(source: str, expected: str) -> None:
    assert expected in imported(source, "bnrepro.x")


def test_no_file_is_longer_than_250_lines() -> None:
    lengths = {
        path.name: len(path.read_text().splitlines()) for path in python_files("src", "scripts", "benchmarks")
    }
    assert {name: n for name, n in lengths.items() if n > 250} == {}


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """What is or would be committed: tracked files and new ones that git does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def machine_paths(text: str) -> Iterator[str]:
    """Absolute paths into somebody's home or a temporary folder."""
    for match in re.finditer(r"(?<![\w.~$})-])/(?:home|root|Users|tmp|work)/[\w.]+", text):
        yield match.group()


def test_committed_text_names_no_path_of_one_machine(committed: list[Path]) -> None:
    found = {}
    for path in committed:
        data = path.read_bytes()
        if b"\0" not in data and path != Path(__file__).resolve():
            hits = list(machine_paths(data.decode("utf-8", "replace")))
            found |= {path.name: hits} if hits else {}
    assert found == {}


def test_the_path_check_sees_a_home_folder_and_not_a_relative_one() -> None:
    assert list(machine_paths("read /home/ada/x and data/tmp/x")) == ["/home/ada"]


def test_the_only_lock_is_requirements_lock_and_it_names_no_address(committed: list[Path]) -> None:
    assert not {path.name for path in committed} & {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock"}
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_every_dependency_is_pinned_with_a_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(want for extra in extras for want in extra)]
    names = {re.split(r"[^\w.-]", want, maxsplit=1)[0].lower() for want in wanted}
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    pinned = {
        re.split(r"\[|==", block, maxsplit=1)[0] for block in blocks if "==" in block and "--hash=" in block
    }
    assert names - pinned == set()
