"""Every command of the README works as it is written, in an empty folder that has the repository's files."""

import os
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest
from pictures import picture, write_folder

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs").glob("*.md")
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
LEFT = {"make test"}  # it is what runs this


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The files by links, and a user's own pictures."""
    if not (ROOT / ".venv/.installed").exists():
        pytest.skip("the commands are those of an environment that make has built")
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "conf", "scripts", "src", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    places = product(("train", "val"), ("cat", "dog"), range(20))
    write_folder(
        folder / "pictures",
        {f"{part}/{name}/{i}.jpg": picture(i, 40, 40) for part, name, i in places},
    )
    return folder


def test_the_readme_is_one_page():
    claims = len(re.findall(r"^\| \[?C\d+", README, re.MULTILINE))
    assert len(README.split()) <= 900 + 20 * (claims - 18)  # a claim of one's own may have its row
    assert 5 <= len(COMMANDS) <= 8


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c not in LEFT]
)  # in their order: collect after train
def test_a_command_works_as_it_is_written(command, checkout):
    environment = os.environ | {"BNREPRO_CACHE": str(checkout / "cache")}
    environment = {
        key: value for key, value in environment.items() if "WANDB" not in key and key != "MAKEFLAGS"
    }
    done = subprocess.run(command, shell=True, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_they_leave_what_the_readme_says(checkout):
    assert (checkout / "outputs/figure1.png").is_file()
    assert (checkout / "results/fig1_quick.parquet").is_file()
    assert list((checkout / "outputs/wandb").rglob("*.wandb"))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "results/README.md", *sorted(f"docs/{p.name}" for p in DOCS)]
)
def test_every_link_to_a_file_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target
