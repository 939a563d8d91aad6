"""`docs/ops.md` is made from the table of ops. Write it anew with: pytest tests/ops/test_docs.py --update."""

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

from language_page import GROUPS, known, of_the_library, section

import dgraph.ops
from dgraph.frontend.meanings import functions_of_the_language
from dgraph.ir.op import OPS, Op, RegionOp
from dgraph.ops.elementwise import Unary

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
HEAD = """# The ops

Every node of a graph applies one of these. Elementwise ops take operands of equal shapes and are also the scalar
bodies of index spaces. *Facts* are fixed in the graph; `dx`, `dy`, ... are the tangents of the operands in order, and
`y` or `z` is the result. Reverse mode is the transpose of the tangents, so no op states it.

After them come [the functions of the language](#the-functions-of-the-language), each with the ops that it becomes, and
[the kinks](#kinks).

This page is generated from the tables of ops and functions: edit the docstrings in `dgraph/ops`, `dgraph/frontend` and
`dgraph/std`, and run `pytest tests/ops/test_docs.py --update`.
"""


def one_line(text: str | None) -> str:
    """The text in one line; outside of code, stars and bars mean themselves."""
    parts = re.sub(r"\s+", " ", text or "").strip().split("`")
    return "`".join(part if at % 2 else re.sub(r"([*|])", r"\\\1", part) for at, part in enumerate(parts))


def meaning(kind: type[Op]) -> str:
    """The first paragraph of the docstring."""
    return one_line((inspect.getdoc(kind) or "").split("\n\n")[0])


def tangent(kind: type[Op]) -> str:
    """What the docstring of its rule says."""
    if issubclass(kind, RegionOp):
        return "by the rules for regions"
    if kind.name in ("fresh", "freeze", "accumulate", "undefined", "zero_tape"):
        return "by the rules for index spaces and loops"
    if kind.name.startswith("disk_"):
        return "none: it stands where derivatives are ordinary loops"
    if issubclass(kind, Unary) and kind.jvp is Unary.jvp:
        slope = (inspect.getdoc(kind.slope) or "").split(":")[0].rstrip(".")
        return one_line(f"dx times {slope[0].lower() + slope[1:]}.")
    if kind.jvp is not Op.jvp:
        return one_line(inspect.getdoc(kind.jvp))
    if kind.linear_in is not None:
        return "The same op of the tangent, one operand at a time." if len(kind.linear_in) > 1 else "The same op of dx."
    return "none: the result is not a float"


def page() -> str:
    lines = [HEAD]
    for name in dgraph.ops.__all__:
        module = importlib.import_module(f"dgraph.ops.{name}")
        kinds = [kind for kind in OPS.values() if kind.__module__ == module.__name__]
        if not kinds:
            continue
        lines += [f"## {name.capitalize()}", "", one_line((module.__doc__ or "").split("\n\n")[0]), ""]
        lines += ["| op | facts | meaning | tangent |", "|---|---|---|---|"]
        for kind in kinds:
            facts = ", ".join(f"`{field.name}`" for field in fields(kind))
            lines.append(f"| `{kind.name}` | {facts} | {meaning(kind)} | {tangent(kind)} |")
        lines.append("")
    return "\n".join([*lines, *section()])


def test_the_page_of_ops_is_fresh(request):
    text = page()
    if request.config.getoption("--update"):
        PAGE.write_text(text, encoding="utf-8", newline="\n")
    assert PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text, "rewrite docs/ops.md with: pytest --update"


def test_the_page_names_every_op():
    text = page()
    assert all(f"| `{name}` |" in text for name in OPS)


def test_the_page_names_every_function_of_the_language():
    text = page()
    language = (PAGE.parent / "language.md").read_text(encoding="utf-8")
    said = language.split("## 12. Built-in functions")[1].strip().split("\n\n")[0]
    names = {name for part in re.findall(r"`([^`]*)`", said) for name in part.split()} - {"x.T", "like=x"}
    assert len(names) > 70
    assert {name for name in names if f"| `{name}` |" not in text} == set()
    assert "`x.T`" in text


def test_every_function_of_the_tables_is_in_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert known() <= set(grouped) and set(grouped) <= known() | of_the_library().keys()


def test_every_function_says_how_it_is_called():
    for name, meaning in functions_of_the_language().items():
        assert re.match(r"`[^`]*\b" + name + r"\(", meaning) and meaning.endswith("."), f"{name}: {meaning}"
