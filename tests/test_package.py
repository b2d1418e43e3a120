"""The package by itself: what is in it, and that it works in an empty folder, with torch and without.

Nothing is fetched: it is built with the setuptools that is here, and its needs are links to what is installed here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import bnrepro.__main__ as program

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("conf", "scripts", "src", "tests", ".ci")
TOP = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
SMALL = ("model.width=8", "seeds=1", "train.steps=20", "eval.every=10", "train.engine=eager")


def ran(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Without PYTHONPATH, by which it would find this checkout."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)


def succeeds(*command: str | Path, cwd: Path) -> str:
    done = ran(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def build(what: str, source: Path) -> Path:
    """The sdist or wheel of a source tree, as pip makes it."""
    call = f"from setuptools import build_meta as b; print('\\n' + b.build_{what}({str(source.parent)!r}))"
    return source.parent / succeeds(sys.executable, "-c", call, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy, for a build leaves files behind; with a cache, and with results that are not to be shipped."""
    folder = tmp_path_factory.mktemp("built") / "checkout"
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")  # tests beside this one write there
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in TOP:
        shutil.copy(ROOT / name, folder)
    (folder / "results").mkdir()
    for name in ("paper.csv", "scorecard.csv", "fig1_quick_long.parquet"):
        shutil.copy(ROOT / "results" / name, folder / "results")
    (folder / "src/bnrepro/__pycache__").mkdir()
    (folder / "src/bnrepro/__pycache__/norm.cpython-311.pyc").touch()
    return folder


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    return build("sdist", checkout)


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent / "unpacked", filter="data")
    (source,) = (sdist.parent / "unpacked").iterdir()
    return build("wheel", source)


def names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def files(folder: str, pattern: str) -> set[str]:
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob(pattern)}


def test_the_wheel_has_the_code_the_configuration_the_scripts_and_nothing_else(wheel: Path) -> None:
    code = files("src", "*.py")
    brought = {f"bnrepro/conf/{name}" for name in files("conf", "*.yaml")}
    brought |= {f"bnrepro/scripts/{name}" for name in files("scripts", "*.py")}
    assert names(wheel) == code | brought | {"bnrepro/results/paper.csv"}


def test_the_sdist_has_what_the_wheel_is_made_of_and_makes_the_same_wheel(
    checkout: Path, sdist: Path, wheel: Path
) -> None:
    with tarfile.open(sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    kinds = {"conf": "*.yaml", "results": "paper.csv", "scripts": "*.py", "src": "*.py"}
    sources = {f"{folder}/{name}" for folder, kind in kinds.items() for name in files(folder, kind)}
    made = {name for name in inside if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert inside - made == sources | set(TOP)
    direct = build("wheel", checkout)
    assert direct != wheel and names(direct) == names(wheel)


def test_an_editable_installation_is_a_path_which_no_folder_named_bnrepro_hides(checkout: Path) -> None:
    (name,) = names(build("editable", checkout))
    assert name.endswith(".pth")


def environment(folder: Path, wheel: Path, needs: Path) -> Path:
    """A fresh environment that has the package and sees the packages in a folder; where its programs are."""
    venv.create(folder, with_pip=False)
    place = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (place / "needs.pth").write_text(f"{needs}\n")
    uv = Path(sys.executable).with_name("uv")
    options = ("--offline", "--no-deps", "--quiet", "--python", folder / "bin" / "python")
    succeeds(uv, "pip", "install", *options, wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """With every extra that is installed here."""
    here = Path(sysconfig.get_path("purelib"))
    return environment(tmp_path_factory.mktemp("full"), wheel, here)


@pytest.fixture(scope="module")
def without(wheel: Path, tmp_path_factory) -> Path:
    """With what `pip install bnrepro` brings and no more."""
    metadata = zipfile.ZipFile(wheel).read(f"bnrepro-{program.__version__}.dist-info/METADATA").decode()
    needs = tmp_path_factory.mktemp("needs")
    link(re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE), needs, set())
    return environment(tmp_path_factory.mktemp("bare"), wheel, needs)


def link(requirements: Iterable[str], folder: Path, seen: set[str]) -> None:
    """Links to the distributions that are required, and to those that they require."""
    for requirement in map(Requirement, requirements):
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if requirement.name in seen or not wanted:
            continue
        seen.add(requirement.name)
        found = distribution(requirement.name)
        for top in {
            file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")
        }:
            (folder / top).symlink_to(Path(str(found.locate_file(top))))
        link(found.requires or (), folder, seen)


@pytest.fixture(scope="module")
def trained(installed: Path, tmp_path_factory) -> Path:
    """Where the installed program trained a run, then the other arm in a process of its own, and collected."""
    folder, bnrepro = tmp_path_factory.mktemp("empty"), installed / "bnrepro"
    train = (bnrepro, "train", "experiment=fig1_quick", *SMALL)
    succeeds(*train, "variant=bn", cwd=folder)
    succeeds(*train, "-m", "hydra/launcher=joblib", cwd=folder)
    succeeds(bnrepro, "collect", "fig1_quick", "--all", cwd=folder)
    return folder


def test_the_installed_program_trains_on_the_digits_and_collects_in_an_empty_folder(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == ["outputs", "results"]
    facts = {fact["variant"]: fact for fact in json.loads((trained / "results/fig1_quick.json").read_text())}
    assert set(facts) == {"baseline", "bn"}
    command = f"bnrepro train experiment=fig1_quick {' '.join(SMALL)} variant=bn"
    assert facts["bn"]["provenance"]["command"] == command


def test_the_analysis_half_lists_compares_and_draws_without_torch(without: Path, trained: Path) -> None:
    bnrepro = without / "bnrepro"
    listed = succeeds(bnrepro, "--help", cwd=trained)
    commands = {path.stem for path in (ROOT / "scripts").glob("*.py")} - set(program.OF_A_CHECKOUT)
    assert set(re.findall(r"^  (\w+) ", listed, re.MULTILINE)) == commands
    assert succeeds(without / "python", "-m", "bnrepro", "--version", cwd=trained) == (
        f"bnrepro {PROJECT['project']['version']}\n"
    )
    table = "results/fig1_quick.parquet"
    succeeds(bnrepro, "compare", table, table, "--out", "results/tables/itself", cwd=trained)
    succeeds(bnrepro, "figures", "fig1_quick", cwd=trained)
    succeeds(bnrepro, "scorecard", cwd=trained)
    assert (trained / "results/scorecard.csv").is_file()
    assert (trained / "results/tables/itself.csv").is_file() and list(trained.glob("results/figures/*.png"))


@pytest.mark.parametrize("name", sorted({path.stem for path in (ROOT / "scripts").glob("*.py")}))
def test_a_command_starts_without_extras_or_names_the_one_that_it_needs(
    without: Path, tmp_path: Path, name: str
) -> None:
    done = ran(without / "bnrepro", name, "--help", cwd=tmp_path)
    if done.returncode:
        assert done.returncode == 2 and re.search(r"pip install 'bnrepro\[|git clone", done.stderr)
        assert done.stderr.count("\n") == 1
    else:
        assert done.stdout.startswith(f"usage: bnrepro {name}")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("train", "bnrepro train needs hydra: pip install 'bnrepro[train]'"),
        ("exact", "bnrepro exact needs torch: pip install 'bnrepro[train]'"),
        ("lab", "jupyterlab is not installed: pip install 'bnrepro[notebook]'"),
        ("wandb_dashboard", "wandb_workspaces is not installed: pip install 'bnrepro[dashboards]'"),
        ("study", "study works on the repository's own files: git clone it, and run it there"),
        ("collects", "no command collects (did you mean collect?); there are"),
    ],
)
def test_what_cannot_run_is_one_line(without: Path, tmp_path: Path, command: str, answer: str) -> None:
    done = ran(without / "bnrepro", command, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {answer}")
    assert not list(tmp_path.iterdir())


def test_the_version_is_one() -> None:
    version = PROJECT["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == version


def test_the_container_copies_what_there_is() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert copied and all((ROOT / name).exists() for line in copied for name in line.split())
    json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
