"""The shape of the house: who may import whom, who knows which file, what committed text may not hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(source: str) -> set[str]:
    """Every module that `source` imports, wherever it stands in the file; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "."} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def texts(source: str) -> set[str]:
    """Every string of `source` that is not a docstring."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in alone)
    return {node.value for node in strings if isinstance(node.value, str)}


def test_every_floor_imports_only_what_its_contract_allows() -> None:
    """The contracts: tool.importlinter in pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_wandb_is_imported_in_the_mirror_only() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in python_files("src", "scripts", "benchmarks")
        if any(name.partition(".")[0] == "wandb" for name in imported(path.read_text()))
    }
    assert users == {"src/bnrepro/runs/wandb.py"}


def test_nothing_imports_scripts() -> None:
    scripts = {path.stem for path in python_files("scripts")}
    for path in python_files("src", "benchmarks", "tests", "notebooks"):
        tops = {name.partition(".")[0] for name in imported(path.read_text())}
        assert "scripts" not in tops, path.name
        if {"tests", "notebooks"} & set(path.parts):  # there a bare name could only mean a script
            assert not scripts & tops, path.name


def test_the_package_does_not_import_the_benchmark() -> None:
    for path in python_files("src"):
        assert not any(name.partition(".")[0] == "benchmarks" for name in imported(path.read_text())), (
            path.name
        )


def test_only_the_run_folder_spells_the_names_of_its_files() -> None:
    owned = {"table.csv", "run.json", "checkpoint.pt"}
    spelled = {
        path.relative_to(ROOT).as_posix()
        for path in python_files("src", "scripts")
        if owned & texts(path.read_text())
    }
    assert spelled == {"src/bnrepro/runs/folder.py"}


def test_the_search_sees_lazy_imports_and_no_docstrings() -> None:
    source = 'def f():\n    """table.csv"""\n    import wandb.sdk as w\n    return w / "run.json"'
    assert (imported(source), texts(source)) == ({"wandb.sdk"}, {"run.json"})
    assert imported("from bnrepro import train") == {"bnrepro", "bnrepro.train"}


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
    extras = [wants for name, wants in project["optional-dependencies"].items() if name != "notebook"]
    wanted = [*project["dependencies"], *(want for extra in extras for want in extra)]
    names = {re.split(r"[^\w.-]", want, maxsplit=1)[0].lower() for want in wanted}
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    pinned = {
        re.split(r"\[|==", block, maxsplit=1)[0] for block in blocks if "==" in block and "--hash=" in block
    }
    assert names - pinned == set()
