"""Build the site: docs/, results/, notebooks and docstrings -> build/site/html, which opens from the disk.

The pages are laid out as the repository is, so that links between them hold in both; what lies outside (code,
configuration) is linked to a page that shows the file. Needs the extra `site`, and no network.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path

import yaml

from bnrepro.analysis.site import pages

ROOT = Path(__file__).resolve().parents[1]
API = (
    "norm",
    "swap",
    "runs.trained",
    "runs.folder",
    "training.loop",
    "training.state",
    "measure.metrics",
    "config.parts",
)
MADE = {
    "src/bnrepro/measure/metrics.py": "docs/metrics.md",
    "src/bnrepro/config/parts.py": "docs/settings.md",
}
DEFAULT = ROOT / "build" / "site"
MARK = ".made-by-bnrepro"  # in a folder that is ours to delete
REPOSITORY_ONLY = re.compile(r"<!-- repository only -->.*?<!-- /repository only -->\n", re.DOTALL)
WAY_IN = """
**On this site**: [Figure 1](docs/study_figure1.md#to-explore),
[rates and initial spreads](docs/study_spreads.md#to-explore) and
[what is BN's effect, what the rate's](docs/study_mnist.md#to-explore) as figures that move;
[Batch Normalization, step by step](docs/step_by_step.md), with exercises; [a lab](notebooks/14_lab.ipynb) for students;
[the study](docs/study.md), question by question; a [glossary](docs/glossary.md).
"""
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")
SHOWN = {
    ".py": "python",
    ".yaml": "yaml",
    ".toml": "toml",
    ".cff": "yaml",
    ".csv": "",
    ".json": "json",
    "": "",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT, help="default: build/site")
    args = parser.parse_args()
    args.out = args.out.resolve()
    begun = time.perf_counter()
    try:
        clear(args.out)
        laid_out = stage(args.out)
        build(args.out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'bnrepro[site]'", file=sys.stderr)
        return 2
    print(f"{laid_out} pages in {time.perf_counter() - begun:.0f} s: {args.out / 'html' / 'index.html'}")
    return 0


def clear(out: Path) -> None:
    """Make `out` an empty folder. Raises ValueError where it holds anything but an earlier site of ours."""
    ours = (out / MARK).is_file() or out == DEFAULT
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} holds other files, which would be deleted: give --out a folder of its own")
    if out.exists():
        shutil.rmtree(out)
    put(out / MARK, "scripts/website.py deletes this folder when it builds the site anew\n")


def stage(out: Path) -> int:
    """Write all sources of the site into out/docs; how many pages there are."""
    docs = out / "docs"
    shutil.copytree(ROOT / "docs" / "site" / "assets", docs / "assets")
    shutil.copytree(ROOT / "results" / "figures", docs / "results" / "figures")
    for source in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/*.md"),
    ]:
        target = docs / ("index.md" if source.name == "README.md" else source.relative_to(ROOT))
        put(target, REPOSITORY_ONLY.sub("", source.read_text()))
    home = docs / "index.md"
    home.write_text(home.read_text().replace("\n## Two commands", f"{WAY_IN}\n## Two commands", 1))
    for source in [
        ROOT / "results" / "README.md",
        ROOT / "results" / "gpu_todo.md",
        *ROOT.glob("results/tables/*.md"),
    ]:
        put(docs / source.relative_to(ROOT), source.read_text())
    notebooks(docs / "notebooks")
    questions = pages.study((ROOT / "docs" / "study.md").read_text(), ROOT / "results")
    for page in questions:
        put(docs / "docs" / f"study_{page.name}.md", page.text)
    put(docs / "docs" / "settings.md", pages.settings())
    put(docs / "docs" / "metrics.md", pages.metrics())
    for module in API:
        put(docs / "api" / f"{module}.md", f"# bnrepro.{module}\n\n::: bnrepro.{module}\n")
    widgets(docs / "assets")
    steps = docs / "docs" / "step_by_step.md"
    steps.write_text(with_code(steps.read_text()))
    architecture = docs / "docs" / "architecture.md"
    architecture.write_text(with_diagrams(architecture.read_text()))
    config = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())
    handler = next(p["mkdocstrings"] for p in config["plugins"] if isinstance(p, dict))["handlers"]["python"]
    handler["paths"] = [str(ROOT / "src")]
    config["nav"] = navigation(questions)
    linked(docs)
    (out / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return len(list(docs.rglob("*.md")))


def build(out: Path) -> None:
    from mkdocs.commands.build import build as made
    from mkdocs.config import load_config

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    made(load_config(str(out / "mkdocs.yml"), strict=True))
    (out / "html" / "404.html").unlink()  # a server's, with paths that only hold there


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def notebooks(folder: Path) -> None:
    """The executed notebooks as Markdown, pictures beside them."""
    from nbconvert import MarkdownExporter

    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        body, resources = MarkdownExporter().from_filename(str(path))
        body = described(body)
        for name, data in resources["outputs"].items():
            body = body.replace(f"({name})", f"({path.stem}_files/{name})")
            (folder / f"{path.stem}_files").mkdir(parents=True, exist_ok=True)
            (folder / f"{path.stem}_files" / name).write_bytes(data)
        put(folder / f"{path.stem}.md", re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL))


def described(text: str) -> str:
    """Each picture of a notebook is named after the heading that it stands under."""
    heading, lines = "", []
    for line in text.splitlines(keepends=True):
        heading = line.lstrip("#").strip() if line.startswith("#") else heading
        lines.append(line.replace("![png]", f"![{heading}]"))
    return "".join(lines)


def widgets(assets: Path) -> None:
    import vl_convert as vega

    from bnrepro.analysis.site.classroom import FOR_CLASS
    from bnrepro.analysis.site.widgets import FROM_RESULTS, caption

    bundle = vega.javascript_bundle()  # pyright: ignore[reportCallIssue], its stub asks for what it does not need
    (assets / "vega.js").write_text(bundle)
    specs = {name: make(ROOT / "results").to_dict() for name, make in FROM_RESULTS.items()}
    specs |= {name: make().to_dict() for name, make in FOR_CLASS.items()}
    for name, spec in specs.items():
        spec.pop("$schema", None)  # an address
        spec["description"] = caption(name)
    (assets / "widgets.js").write_text(f"window.bnWidgets = {json.dumps(specs)};\n")


def with_code(text: str) -> str:
    """Each line that a page quotes from norm.py gets its number. Raises ValueError if it is no line of it any more."""
    source = [line.strip() for line in (ROOT / "src" / "bnrepro" / "norm.py").read_text().splitlines()]

    def shown(found: re.Match) -> str:
        if found[1] not in source:
            raise ValueError(f"docs/step_by_step.md: norm.py has no line {found[1]!r}")
        return f'```python title="src/bnrepro/norm.py, line {source.index(found[1]) + 1}"\n{found[1]}\n```'

    return re.sub(r'```python title="src/bnrepro/norm.py"\n(.+?)\n```', shown, text)


def with_diagrams(text: str) -> str:
    """Each Mermaid diagram of a page becomes its drawing in docs/site/assets, named after its source.

    Mermaid itself is 3.5 MB and would draw on every visit. Raises ValueError where a diagram has been changed since.
    """

    def drawn(found: re.Match) -> str:
        name = f"diagram-{hashlib.sha256(found[1].encode()).hexdigest()[:8]}.svg"
        if not (ROOT / "docs" / "site" / "assets" / name).is_file():
            raise ValueError(
                f"a diagram has changed: draw it with Mermaid and save it as docs/site/assets/{name}"
            )
        return f"![The diagram](../assets/{name})"

    return re.sub(r"```mermaid\n(.*?)```", drawn, text, flags=re.DOTALL)


def linked(docs: Path) -> None:
    """Links to files that are no pages: the file becomes one. Folders: their README, or a list."""
    for page in list(docs.rglob("*.md")):
        text = page.read_text()
        base = (ROOT / page.relative_to(docs)).parent if page.name != "index.md" else ROOT

        def target(found: re.Match, base: Path = base, page: Path = page) -> str:
            link, anchor = found[1], found[2] or ""
            if re.match(r"[a-z]+:", link) or link.startswith("/"):
                return found[0]
            here = (base / link).resolve()
            if made := MADE.get(os.path.relpath(here, ROOT)):
                return os.path.relpath(docs / made, page.parent)
            if here == ROOT / "README.md":
                return os.path.relpath(docs / "index.md", page.parent) + anchor
            if not here.is_relative_to(ROOT) or (page.parent / link).is_file():
                return found[0]
            if here.suffix == ".ipynb":
                return link.replace(".ipynb", ".md") + anchor
            if here.is_file() and here.suffix in SHOWN:
                shown = docs / "files" / f"{here.relative_to(ROOT)}.md"
                put(
                    shown,
                    f"# {here.relative_to(ROOT)}\n\n````{SHOWN[here.suffix]}\n{here.read_text()}\n````\n",
                )
                return os.path.relpath(shown, page.parent)
            if here.is_dir():
                listing = docs / "files" / f"{here.relative_to(ROOT)}.folder.md"
                readme = docs / here.relative_to(ROOT) / "README.md"
                if readme.is_file():
                    return os.path.relpath(readme, page.parent)
                names = sorted(
                    p.name + "/" * p.is_dir() for p in here.iterdir() if not p.name.startswith(("_", "."))
                )
                put(listing, f"# {here.relative_to(ROOT)}/\n\n" + "".join(f"- `{name}`\n" for name in names))
                return os.path.relpath(listing, page.parent)
            return found[0]

        page.write_text(LINK.sub(target, text))


def navigation(questions: list[pages.Page]) -> list:
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    return [
        {"Home": "index.md"},
        {
            "The study": [
                {"In one page": "docs/study.md"},
                *({q.title: f"docs/study_{q.name}.md"} for q in questions),
            ]
        },
        {
            "In class": [
                {"Batch Normalization, step by step": "docs/step_by_step.md"},
                {"A lab of an hour": "notebooks/14_lab.md"},
                {"Glossary": "docs/glossary.md"},
            ]
        },
        {
            "How to": [
                {"Train, sweep, collect": "docs/usage.md"},
                {"Add a model, metric, data set, engine": "docs/architecture.md"},
                {"Add an experiment": "CONTRIBUTING.md"},
                {"The layer in your own net": "docs/layer.md"},
                {"Weights & Biases": "docs/wandb.md"},
                {"Sweeps on a cluster": "docs/cluster.md"},
            ]
        },
        {
            "Reference": [
                {"Settings": "docs/settings.md"},
                {"Metrics": "docs/metrics.md"},
                {"Files": "docs/formats.md"},
                {"Results": "results/README.md"},
                *({f"bnrepro.{module}": f"api/{module}.md"} for module in API),
            ]
        },
        {
            "About": [
                {"Reproducibility summary": "docs/summary.md"},
                {"What is promised": "docs/reliability.md"},
                {"Speed": "docs/speed.md"},
                {"Decisions": "docs/decisions.md"},
                {"Changes": "CHANGELOG.md"},
            ]
        },
        {"Notebooks": [f"notebooks/{name}.md" for name in names]},
    ]


if __name__ == "__main__":
    sys.exit(main())
