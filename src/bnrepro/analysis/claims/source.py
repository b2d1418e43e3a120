"""What code a rule depends on, as a hash: so that a rule that is changed cannot keep its old date."""

import ast
import functools
import hashlib
import inspect
import sys

ROOM = "bnrepro.analysis"
SAYS = ("bnrepro.analysis.report",)  # writes numbers for readers, decides nothing
WORDS = {"measure", "words", "note", "WORDS"}  # names of what is only said: it can be said better later

Name = tuple[str, str]  # module, name in it


def fingerprint(*names: Name) -> str:
    """Hash of these functions and of every function, class and constant of the analysis that they lead to.

    Docstrings, comments, layout and the words of a case are left out.
    """
    found: dict[Name, str] = {}
    for name in names:
        _follow(name, found)
    return hashlib.sha256("\n".join(found[name] for name in sorted(found)).encode()).hexdigest()[:12]


def _follow(name: Name, found: dict[Name, str]) -> None:
    module, definitions = name[0], _definitions(name[0])
    if name in found or name[1] not in definitions:
        return
    node = definitions[name[1]]
    found[name] = ast.dump(node)
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            _follow(_origin(module, part.id), found)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            _follow((".".join(_origin(module, part.value.id)), part.attr), found)


def _origin(module: str, name: str) -> Name:
    """Where a name that is used in a module is defined: there, or where it is imported from."""
    return _imports(module).get(name, (module, name))


@functools.cache
def _imports(module: str) -> dict[str, Name]:
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in _tree(module).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The functions, classes and constants of a module of the analysis, without their words; {} for others."""
    if not module.startswith(ROOM) or module in SAYS or module not in sys.modules:
        return {}
    found: dict[str, ast.stmt] = {}
    for node in _Silent().visit(_tree(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))


class _Silent(ast.NodeTransformer):
    """Takes the words out: docstrings, a case's measure and note, and constants that hold words."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        if any(isinstance(target, ast.Name) and target.id in WORDS for target in node.targets):
            return ast.Assign(node.targets, _mute(node.value))
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node = self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Case":
            node.args[:1] = [_mute(arg) for arg in node.args[:1]]
        for keyword in node.keywords:
            if keyword.arg in WORDS:
                keyword.value = _mute(keyword.value)
        return node


def _mute(node: ast.expr) -> ast.expr:
    """Without the texts in it; names in it still count."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            part.value = ""
    return node
