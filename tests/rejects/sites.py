"""Where diagnostics are made: the calls in the code, and which of them made the diagnostics that were reported."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dgraph
from dgraph import errors
from dgraph.errors import Diagnostic
from dgraph.reader.layout import LayoutError

PACKAGE = Path(dgraph.__file__).parent
WHERE = ("reader", "frontend", "program", "train", "cli", "params.py")

ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
HELPERS = {"Diagnostic": 0, "LayoutError": 0, "unknown": 1}
"""Functions that are given a title, and at which position."""


@dataclass(frozen=True)
class Site:
    """A call that makes a diagnostic: its file, its lines, and the title as the code writes it."""

    file: str
    first: int
    last: int
    title: str

    @property
    def key(self) -> str:
        """What names the site where lines move."""
        return f"{self.file}: {self.title}"


def sites() -> list[Site]:
    """All calls that make a diagnostic with a title of their own."""
    files = [
        file for place in WHERE for file in ([PACKAGE / place] if "." in place else (PACKAGE / place).glob("*.py"))
    ]
    return [site for file in sorted(files) for site in sites_of(file)]


def sites_of(file: Path) -> Iterator[Site]:
    """The calls of one file."""
    for function in functions_of(ast.parse(file.read_text(encoding="utf-8"))):
        formals = {formal.arg for formal in ast.walk(function.args) if isinstance(formal, ast.arg)}
        for node in own_nodes(function):
            title = title_of(node) if isinstance(node, ast.Call) else None
            if title is None or (isinstance(title, ast.Name) and title.id in formals):
                continue
            words = written(function, title)
            yield Site(file.relative_to(PACKAGE).as_posix(), node.lineno, node.end_lineno or node.lineno, words)


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, those of nested functions left out."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef):
            yield node
            waiting += ast.iter_child_nodes(node)


def title_of(call: ast.Call) -> ast.expr | None:
    """The title that a call gives, if it makes a diagnostic."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "at":
        kind = call.func.value
        return call.args[1] if isinstance(kind, ast.Name) and kind.id in ERRORS else None
    if isinstance(call.func, ast.Name) and call.func.id in HELPERS and len(call.args) > HELPERS[call.func.id]:
        return call.args[HELPERS[call.func.id]]
    return None


def written(function: ast.FunctionDef, title: ast.expr) -> str:
    """A title as the code writes it; what is put in stands in braces."""
    if isinstance(title, ast.Name):
        values = [
            node.value
            for node in own_nodes(function)
            if isinstance(node, ast.Assign) and any(ast.unparse(target) == title.id for target in node.targets)
        ]
        before = [value for value in values if value.lineno <= title.lineno]
        return written(function, max(before, key=lambda value: value.lineno)) if before else title.id
    if isinstance(title, ast.Constant):
        return str(title.value)
    if isinstance(title, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in title.values)
        return "".join(map(str, parts))
    return ast.unparse(title)


Frames = set[tuple[str, int]]


@contextmanager
def recorded() -> Iterator[dict[Diagnostic, Frames]]:
    """While inside, the lines of the package that were at work when each diagnostic was made."""
    found: dict[Diagnostic, Frames] = {}
    layout: dict[str, Frames] = {}
    plain, plain_layout = Diagnostic.__init__, LayoutError.__init__

    def record(self: Diagnostic, *arguments: object, **keywords: object) -> None:
        plain(self, *arguments, **keywords)  # type: ignore[arg-type]
        found.setdefault(self, set()).update(lines_at_work(), layout.pop(self.title, ()))

    def record_layout(self: LayoutError, *arguments: object, **keywords: object) -> None:
        plain_layout(self, *arguments, **keywords)  # type: ignore[arg-type]
        layout[self.title] = lines_at_work()

    Diagnostic.__init__ = record  # type: ignore[method-assign]
    LayoutError.__init__ = record_layout  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Diagnostic.__init__ = plain  # type: ignore[method-assign]
        LayoutError.__init__ = plain_layout  # type: ignore[method-assign]


def lines_at_work() -> Frames:
    """The lines of the package on the stack."""
    found: Frames = set()
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if PACKAGE in path.parents:
            found.add((path.relative_to(PACKAGE).as_posix(), frame.f_lineno))
        frame = frame.f_back
    return found
