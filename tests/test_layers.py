"""Imports inside dgraph point only to earlier rows of the architecture; places on one row never import one another."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    "classes",
    "errors",
    "reader",
    "sizes",
    "types",
    "ir",
    "ops",
    "frontend ad passes kernels view",
    "params",
    "program",
    "train interop",
    "cli",
    "__main__",
]
ROW_OF = {place: row for row, places in enumerate(ROWS) for place in places.split()}
FILES = sorted(file for file in (ROOT / "dgraph").rglob("*.py") if file != ROOT / "dgraph" / "__init__.py")


def absolute(name: str, level: int, package: str) -> str:
    """The dotted name meant by a name with so many leading dots, said inside the package."""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])]) if level else name


def imported_modules(source: str, package: str) -> Iterator[tuple[int, str]]:
    """The line and dotted name of all that a module of the package imports, at any depth of the source."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = absolute(module or "", level, package)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                bare = name.lstrip(".")
                yield node.lineno, absolute(bare, len(name) - len(bare), package)


def faults(source: str, file: str) -> list[str]:
    """What the module at this path relative to the root imports against the rows."""
    here = Path(file).parts[1].removesuffix(".py")
    found = []
    for line, name in imported_modules(source, ".".join(Path(file).parts[:-1])):
        top, _, rest = name.partition(".")
        there = rest.partition(".")[0]
        if top != "dgraph" or there in (here, "__version__"):
            continue
        if there not in ROW_OF:
            found.append(f"{file}:{line}: imports {name}, which is in no row: import the module that defines it")
        elif ROW_OF[there] >= ROW_OF[here]:
            found.append(f"{file}:{line}: {here} (row {ROW_OF[here]}) imports {there} (row {ROW_OF[there]})")
    return found


def test_every_place_has_a_row():
    places = {file.relative_to(ROOT / "dgraph").parts[0].removesuffix(".py") for file in FILES}
    assert places - {"std"} <= ROW_OF.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_point_down(file):
    assert not faults(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix())


@pytest.mark.parametrize(
    "source",
    [
        "import dgraph.program",
        "import dgraph",
        "from dgraph import load",
        "from dgraph import passes",
        "from dgraph.view.dot import draw",
        "from .. import view",
        "from ..kernels.schedule import plan",
        "def late():\n    from dgraph.passes import base",
        "if TYPE_CHECKING:\n    from dgraph.cli import main",
        "import_module('dgraph.view')",
        "importlib.import_module('..view', 'dgraph.ad')",
    ],
)
def test_an_import_upward_or_sideways_is_found(source):
    assert len(faults(source, "dgraph/ad/jvp.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import numpy",
        "from dgraph import errors",
        "from dgraph.ir.graph import Graph",
        "from dgraph.ad.unzip import unzip",
        "from . import transpose",
        "from .transpose import transpose",
        "from ..ops import control",
    ],
)
def test_an_import_downward_or_within_a_place_is_not(source):
    assert not faults(source, "dgraph/ad/jvp.py")
