"""Markdown pages: the study's questions with their verdicts, and the reference of settings and metrics."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, fields
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bnrepro.analysis.claims import PARTS as RULES_OF
from bnrepro.analysis.claims import RULES
from bnrepro.config import parts, schema
from bnrepro.measure.metrics import METRICS

PARTS = {
    "data": (parts.DataConfig,),
    "model": (parts.ModelConfig, parts.MLPConfig, parts.InceptionConfig),
    "optim": (parts.OptimConfig,),
    "train": (parts.TrainConfig,),
    "eval": (parts.EvalConfig,),
    "record": (parts.RecordConfig,),
    "hydra.launcher": (parts.SlurmConfig, parts.RayConfig),
}
LOOKS = {
    "reproduced": "success",
    "not reproduced": "failure",
    "partly": "warning",
    "inconclusive": "info",
}
CHANGES = {
    "reproduced": "a case whose interval no longer lies beyond its bound",
    "not reproduced": "a case whose interval no longer lies short of its bound",
    "partly": "nothing but other cases or bounds: some hold and some fail, whatever becomes of open ones",
    "inconclusive": "more seeds or longer runs that bring the open intervals to one side of their bounds",
    "not tested": "the runs",
}
# Under a heading of docs/study.md: <!-- page: name; claims: C1 C2; widgets: figure1 -->
MARK = re.compile(r"<!-- page: (\S+?)(?:; claims: ([C\d ]+?))?(?:; widgets: ([\w ]+?))? -->\n")


class Page(NamedTuple):
    name: str
    title: str
    text: str  # Markdown; paths relative to docs/


def study(text: str, results: Path) -> list[Page]:
    """A page for every "## " section of docs/study.md that has a mark, the verdicts of its claims at its end."""
    card = pd.read_csv(results / "scorecard.csv", dtype=str).fillna("").set_index("claim")
    rules = pd.read_csv(results / "rules.csv", dtype=str).fillna("").set_index("claim")
    pages = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if (found := MARK.search(body)) is None:
            continue
        name, claims, widgets = (group or "" for group in found.groups())
        body = MARK.sub("", body).strip("\n")
        if widgets:
            body += "\n\n## To explore\n\n" + "\n\n".join(map(placed, widgets.split()))
        if claims:
            body += "\n\n## The verdicts\n\n"
        body += "\n\n".join(verdict(claim, card.loc[claim], rules) for claim in claims.split())
        pages.append(Page(name, title, f"# {title}\n\n{body}\n"))
    return pages


def placed(widget: str) -> str:
    """Where a page's script puts an interactive figure; a reader without JavaScript sees the sentence."""
    from bnrepro.analysis.site.widgets import caption  # draws with what only the site needs

    return (
        f'<div class="bn-widget" data-widget="{widget}"><noscript>The interactive figure needs JavaScript; '
        "the picture on this page shows the same runs.</noscript></div>"
        f'\n<p class="bn-caption">{caption(widget)}</p>'
    )


def verdict(claim: str, row: pd.Series, rules: pd.DataFrame) -> str:
    """What the paper says, each case with its interval, how often the rule errs, what would change the verdict."""
    look = LOOKS.get(row["verdict"], "info")
    cases = "; " + row["note"]
    each = [case for case in re.split(r"; (?=[^;]*: (?:holds|fails|open))", cases) if case.strip("; ")]
    elsewhere = " (elsewhere)"
    said = row["statement"]
    lines = [
        f"Said elsewhere: {said.removesuffix(elsewhere)}."
        if said.endswith(elsewhere)
        else f"The paper: {said}."
    ]
    lines += [f"- {case.strip('; ')}" for case in each] if len(each) > 1 else [*each]
    judged_by = [part for part in RULES_OF.get(claim, (claim,)) if part in rules.index]
    for part in judged_by:
        rule = rules.loc[part]
        right, nothing = _share(rule["p_if_right"]), _share(rule["p_if_no_effect"])
        odds = f"{right} if the paper is right and {nothing} if there is no effect"
        name = "The rule" if len(judged_by) == 1 else f"The rule on {', '.join(RULES[part].experiments)}"
        lines.append(f"{name} says *reproduced* with probability {odds}" + _coverage(rule) + ".")
        if float(rule["p_if_right"]) < 0.5:
            lines[-1] += f" With {row['n']} {row['of']} it can hardly say so, whoever is right."
        lines[-1] += f" Written on {rule['committed'][:10]}{_age(rule)}."
    lines.append(f"What would change it: {CHANGES[row['verdict']]}.")
    notebook = f" [Notebook](../{row['notebook']})." if row["notebook"] else ""
    lines[-1] += f" Runs: `{row['config']}`.{notebook}" if row["config"] else notebook
    head = f'!!! {look} "{claim}, {row["short"]}: {row["verdict"]}"\n\n'
    bullets = any(line.startswith("- ") for line in lines)
    joined = re.sub(r"\n\n(?=- )", "\n", "\n\n".join(lines)) if bullets else "\n\n".join(lines)
    joined = joined.replace(".\n- ", ".\n\n- ", 1)
    return head + "\n".join(f"    {line}".rstrip() for line in joined.splitlines())


def _age(rule: pd.Series) -> str:
    """Whether it is older than the first run that it judges: its own runs, where a claim has several rules."""
    if not rule["data_from"]:
        return ""
    first = rule["committed"] < rule["data_from"]  # ISO, UTC
    return ": it is older than the runs" if first else ": **it is younger than some of the runs**"


def settings() -> str:
    """The reference of settings, a table for every part: name, type, default, what is allowed, meaning."""
    text = "# Settings\n\nThe settings of `scripts/train.py`: `name=value` on the command line, or a line in `conf/`.\n"
    rows = list(_rows("", schema.Config, schema.__file__))
    text += _table("The run", [row for row in rows if row[1] != "group"])
    for part, classes in PARTS.items():
        for kind in classes:
            prefix = f"{part}."
            own = list(_rows(prefix, kind, parts.__file__))
            title = f"`{part}`" + {
                "MLPConfig": ", model=mlp only",
                "InceptionConfig": ", model=inception only",
                "SlurmConfig": ", hydra/launcher=slurm only",
                "RayConfig": ", hydra/launcher=ray only",
            }.get(kind.__name__, "")
            text += _table(title, own)
    return text


def metrics() -> str:
    """The reference of metrics, from their declarations."""
    text = "# Metrics\n\nThe column `name` of a run's table, as regular expressions; no other can be recorded.\n\n"
    text += "| name | unit | meaning | measured |\n|---|---|---|---|\n"
    for metric in METRICS:
        cells = (f"`{metric.name}`".replace("|", "\\|"), metric.unit, metric.meaning, metric.when)
        text += "| " + " | ".join(cells) + " |\n"
    return text


def _rows(prefix: str, kind: Any, file: str) -> Iterator[tuple[str, str, str, str, str]]:
    source = Path(file).read_text()
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    comments, allowed = _comments(source), _allowed(node)
    own = {
        n.target.id: n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    for field in fields(kind):
        if field.name not in own or (field.name == "name" and prefix == "model."):
            continue
        at, key = own[field.name], prefix + field.name
        if field.default is MISSING:
            yield key, "group", "", "", ""
            continue
        default = (
            "``"
            if field.default == ""
            else f"`{field.default}`".replace("True", "true").replace("False", "false")
        )
        kind_of = "number, list or range" if key == "seeds" else str(ast.unparse(at.annotation))
        lines = range(at.lineno, (at.end_lineno or at.lineno) + 1)
        meaning = " ".join(comments[line] for line in lines if line in comments)
        yield key, kind_of, default, allowed.get(key, ""), meaning


def _comments(source: str) -> dict[int, str]:
    """The comment at the end of each line."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _allowed(node: ast.ClassDef) -> dict[str, str]:
    """What the checks of a part's __post_init__ ask of each setting."""
    found: dict[str, str] = {}
    for call in (n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)):
        if not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        key, rest = str(call.args[0].value), [ast.unparse(a) for a in call.args[2:]]
        more = {k.arg: ast.unparse(k.value) for k in call.keywords}
        match call.func.id:
            case "between":
                found[key] = " to ".join(f"{int(n):,}" if n.replace("_", "").isdigit() else n for n in rest)
            case "positive":
                found[key] = "above 0"
            case "not_negative":
                found[key] = "from 0" + (f", below {more['below']}" if "below" in more else "")
            case "one_of":
                words = eval(rest[0], dict(vars(parts)))  # a tuple of words, or the name of one in parts.py
                found[key] = ", ".join(f"`{word}`" for word in words)
    return found


def _table(title: str, rows: list[tuple[str, str, str, str, str]]) -> str:
    text = f"\n## {title}\n\n| setting | type | default | allowed | meaning |\n|---|---|---|---|---|\n"
    for key, kind, default, allowed, meaning in rows:
        cells = (f"`{key}`", kind, default, allowed, meaning.replace("|", "\\|").replace("<", "&lt;"))
        text += "| " + " | ".join(cells) + " |\n"
    return text


def _share(text: str) -> str:
    return f"{float(text):.2f}" if text else "unknown"


def _coverage(rule: pd.Series) -> str:
    return f", and its intervals cover {float(rule['coverage']):.1%}" if rule["coverage"] else ""
