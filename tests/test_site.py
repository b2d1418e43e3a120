"""The site: every page builds, links hold, formulas and figures are drawn, search finds; in a real browser."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bnrepro.analysis import summary
from bnrepro.analysis.site import classroom, offline, pages, widgets
from bnrepro.config.compose import single
from bnrepro.config.refusal import kinds
from bnrepro.measure.metrics import EDGES
from bnrepro.runs.folder import RunFolder, Table
from bnrepro.runs.run import run

ROOT = Path(__file__).parents[1]
STUDY = (ROOT / "docs/study.md").read_text()
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


def test_every_claim_that_was_judged_has_a_page_with_its_verdict():
    text = "".join(page.text for page in pages.study(STUDY, ROOT / "results"))
    card = pd.read_csv(ROOT / "results/scorecard.csv")
    for claim, verdict in zip(card["claim"], card["verdict"], strict=True):
        if claim not in ("C4", "C5", "C6"):  # identities: the page for class
            assert re.search(rf'!!! \w+ "{claim}, .*: {verdict}"', text), claim


def test_each_rule_of_a_claim_is_dated_by_the_runs_that_it_judges():
    rule = {
        "p_if_right": "1",
        "p_if_no_effect": "0",
        "coverage": "",
        "committed": "2026-01-02T00:00:00+00:00",
    }
    rows = {
        "C7": rule | {"data_from": "2026-01-03T00:00:00+00:00"},
        "C7-Inception": rule | {"data_from": "2026-01-01"},
    }
    words = ("note", "statement", "short", "notebook", "config")
    said = pages.verdict(
        "C7", pd.Series(dict.fromkeys(words, "-") | {"verdict": "partly"}), pd.DataFrame(rows).T
    )
    mnist, inception = (line for line in said.splitlines() if "Written on" in line)
    assert "older than the runs" in mnist and "younger than some of the runs" in inception


def test_every_setting_is_in_the_reference_with_what_it_means():
    text = pages.settings()
    for key in set(kinds()) - {"model.name"}:  # set by model=
        (line,) = re.findall(rf"^\| `{re.escape(key)}` \|.*$", text, flags=re.MULTILINE)
        assert line.split(" | ")[-1].strip(" |"), f"{key}: a comment in config/ says what it means"


def test_bounds_in_the_reference_are_those_that_are_checked():
    text = pages.settings()
    assert "| `model.width` | int | `100` | 1 to 1,000,000 |" in text
    assert "| `train.engine` | str | `auto` | `auto`, `xla`, `eager`, `cuda` |" in text
    assert "| `model.dropout` | float | `0.0` | from 0, below 1 |" in text


@pytest.mark.parametrize("name", [*widgets.FROM_RESULTS, *classroom.FOR_CLASS])
def test_a_widget_is_small_is_placed_on_a_page_and_has_no_address(name):
    make = widgets.FROM_RESULTS.get(name)
    spec = (make(ROOT / "results") if make else classroom.FOR_CLASS[name]()).to_dict()
    spec.pop("$schema")
    text = json.dumps(spec)
    assert len(text) < 250_000 and "http" not in text and '"params"' in text
    pages_of = STUDY + (ROOT / "docs/step_by_step.md").read_text()
    assert re.search(rf'widgets: [\w ]*\b{name}\b|data-widget="{name}"', pages_of)


def test_a_line_of_code_that_is_gone_is_refused():
    with_code = runpy.run_path(str(ROOT / "scripts/website.py"))["with_code"]
    page = (ROOT / "docs/step_by_step.md").read_text(encoding="utf-8")
    assert with_code(page).count("norm.py, line") == page.count('title="src/bnrepro/norm.py"') == 12
    with pytest.raises(ValueError, match="no line 'dgama = "):
        with_code(page.replace("dgamma = ", "dgama = "))


def test_a_folder_of_others_is_never_cleared_and_an_earlier_site_is(tmp_path):
    clear = runpy.run_path(str(ROOT / "scripts/website.py"))["clear"]
    (mine := tmp_path / "mine").mkdir()
    (mine / "thesis.tex").write_text("years")
    (a_file := tmp_path / "page.html").write_text("")
    for taken in (mine, tmp_path, a_file):
        with pytest.raises(ValueError, match="holds other files"):
            clear(taken)
    assert (mine / "thesis.tex").read_text() == "years" and a_file.exists()
    clear(site := tmp_path / "site")
    (site / "old.html").write_text("")
    clear(site)
    assert [path.name for path in site.iterdir()] == [".made-by-bnrepro"]


def test_a_diagram_that_was_changed_but_not_drawn_again_is_refused():
    with_diagrams = runpy.run_path(str(ROOT / "scripts/website.py"))["with_diagrams"]
    text = (ROOT / "docs/architecture.md").read_text()
    assert "assets/diagram-" in with_diagrams(text) and "mermaid" not in with_diagrams(text)
    with pytest.raises(ValueError, match="a diagram has changed"):
        with_diagrams(text.replace("fit()", "train()"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder. Strict: a link that leads nowhere fails the build."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/website.py", "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_the_site_needs_nothing_from_outside(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]*?src="([^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="([^"]+)"',
            page.read_text(),
        )
        assert not [link for pair in loaded for link in pair if re.match(r"https?:|//", link)], page


@pytest.fixture(scope="module")
def browser(site):
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def waited(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {script}"))


DRAWN = "[...document.querySelectorAll('.bn-widget')].every(w => w.querySelector('svg') && w.bnView)"


def test_every_page_opens_from_the_disk_without_an_error_and_draws_its_figures(site, browser):
    for page in sorted(site.rglob("*.html")):
        browser.get(f"file://{page}")
        waited(browser, DRAWN)
        errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert not errors, (page, errors)
        assert not browser.execute_script("return document.querySelectorAll('.katex-error').length"), page


def test_formulas_are_drawn(site, browser):
    browser.get(f"file://{site}/docs/step_by_step.html")
    assert waited(browser, "document.querySelectorAll('.katex').length > 25")
    assert "$" not in browser.find_element("tag name", "article").text


@pytest.mark.parametrize(
    ("page", "widget", "signal", "value"),
    [
        ("study_figure1", "figure1", "regime", "each its own best"),
        ("study_figure1", "fans", "seed", 42),
        ("study_inception", "depth", "net", "Inception"),
        ("study_spreads", "tolerance", "place", 0),
        ("study_mnist", "grid", "activation", "relu"),
        ("study_mnist", "grid", "rule", "its own best"),
        ("step_by_step", "sigmoid", "gamma", 3),
        ("step_by_step", "standardize", "stage", "minus mean"),
        ("step_by_step", "noise", "size", 4),
    ],
)
def test_a_figure_moves(site, browser, page, widget, signal, value):
    browser.get(f"file://{site}/docs/{page}.html")
    waited(browser, DRAWN)
    place = f"document.querySelector('[data-widget={widget}]')"
    picture = f"{place}.querySelector('svg').innerHTML"
    before = browser.execute_script(f"return {picture}")
    browser.execute_script(f"{place}.bnView.signal('{signal}', {json.dumps(value)}).run()")
    waited(browser, f"{picture} !== {json.dumps(before)}")


def with_histograms(place, layers, steps=51):
    """A run's folder with accuracies and histograms, as training writes it."""
    cfg = single([f"output={place}", f"optim.lr={1 + int(place.name)}"])
    folder = RunFolder.of(cfg)
    table = Table(folder)
    counts = ([0] * 20 + [5] * 24 + [0] * 20, EDGES)
    for step in range(steps):
        probes = {f"probe/hidden{layer}/histogram": counts for layer in range(layers)}
        table.log(step, 0, {"test/accuracy": 0.5}, probes)
    table.close("finished")
    folder.config.write_text(yaml.safe_dump(cfg.resolved()))
    return folder


def test_a_page_of_many_runs_and_layers_is_written_and_stays_small(tmp_path):
    folders = [with_histograms(tmp_path / str(i), layers=8) for i in range(10)]
    lines = [summary.line(folder) for folder in folders]
    shares = offline.distributions(lines)
    assert shares["run"].nunique() == 10 and shares["layer"].nunique() == 8 and len(shares) < 40_000
    assert len(offline.page(lines)) < 6_000_000


def test_a_page_leaves_out_histograms_that_cannot_be_read_and_says_so(tmp_path, capsys):
    folders = [with_histograms(tmp_path / str(i), layers=1) for i in range(2)]
    folders[0].histograms.write_text("seed,step,name,counts\n0,0,probe/hidden0/histogram,1 2 3\n")
    assert offline.distributions([summary.line(folder) for folder in folders])["run"].nunique() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(folders[0].histograms) in said


def test_a_page_of_runs_opens_and_moves(browser, tmp_path):
    settings = ["train.steps=20", "eval.every=10", "seeds=2", f"output={tmp_path}", "train.engine=eager"]
    for variant in ("baseline", "bn"):
        run(single([*settings, f"variant={variant}"]), lambda done, remark: None)
    lines = [summary.line(folder) for folder in RunFolder.below(tmp_path)]
    shares = offline.distributions(lines)
    whole = shares.groupby(["run", "layer", "step"])["share"].sum()
    assert whole.between(0.98, 1.001).all() and set(shares["step"]) >= {0, 10, 20}
    (tmp_path / "page.html").write_text(offline.page(lines))
    browser.get(f"file://{tmp_path}/page.html")
    assert waited(browser, "document.querySelectorAll('svg').length === 3")
    before = browser.execute_script("return document.querySelector('#chart0 svg').innerHTML")
    browser.execute_script(
        "const s = document.querySelector('select'); s.value = 1; s.selectedIndex = 1;"
        "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change'));"
    )
    waited(browser, f"document.querySelector('#chart0 svg').innerHTML !== {json.dumps(before)}")
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_search_finds_momentum(site, browser):
    browser.get(f"file://{site}/index.html")
    waited(browser, "document.querySelector('[data-md-component=search-query]') !== null")
    browser.execute_script(
        "const q = document.querySelector('[data-md-component=search-query]'); q.focus(); q.value = 'momentum';"
        "q.dispatchEvent(new Event('keyup', {bubbles: true})); q.dispatchEvent(new Event('input', {bubbles: true}));"
    )
    assert waited(browser, "document.querySelectorAll('.md-search-result__item').length > 2")
