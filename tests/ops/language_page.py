"""The part of `docs/ops.md` about the functions of the language: what each means, and which ops it becomes."""

from __future__ import annotations

import re

import numpy as np
from kinks import table
from test_builtins import CASES, header

from dgraph.frontend import lower_function, parse_program
from dgraph.frontend.calls import SYNTACTIC
from dgraph.frontend.context import BUILTINS
from dgraph.frontend.meanings import functions_of_the_language
from dgraph.frontend.modules import Entry
from dgraph.frontend.tree import Function
from dgraph.ir.graph import Region

ELEMENTWISE = """
    abs sign sqrt rsqrt exp expm1 log log1p sin cos tan asin acos atan atan2 sinh cosh tanh erf lgamma digamma floor
    ceil round clip sigmoid softplus relu where isnan isfinite
"""
SHAPE = """
    reshape transpose concat stack split pad flip squeeze expand tile diag tril triu one_hot arange cumsum cumprod
    sort argsort searchsorted len
"""
REDUCERS = """
    sum prod mean max min logsumexp any all argmax argmin softmax log_softmax cross_entropy norm dot var std
"""
DERIVATIVES = "grad value_and_grad jvp vjp jacobian hessian hvp stop_gradient implicit vmap"
GROUPS = {
    title: names.split()
    for title, names in {
        "Entry by entry": ELEMENTWISE,
        "Shapes and orders": SHAPE,
        "Reducers": REDUCERS,
        "Linear algebra": "solve cholesky triangular_solve inv det logdet qr eigh svd lstsq",
        "Makers": "zeros ones zeros_like eye",
        "Random numbers": "normal uniform bernoulli randint categorical permutation fold",
        "Derivatives and batching": DERIVATIVES,
        "Loops": "range enumerate zip",
    }.items()
}
SAMPLES = {
    "where": "where(c, x, y)",
    "stack": "stack(x, y)",
    "squeeze": "squeeze(expand(x, 0))",
    "searchsorted": "searchsorted(x, y)",
    "max": "max(x)",
    "min": "min(x)",
    "any": "any(c)",
    "all": "all(c)",
    "dot": "dot(x, y)",
    "clip": "clip(x, y, y)",
    "atan2": "atan2(x, y)",
    "solve": "solve(a, x)",
    "cholesky": "cholesky(a)",
    "triangular_solve": "triangular_solve(a, x)",
    "inv": "inv(a)",
    "det": "det(a)",
    "logdet": "logdet(a)",
    "qr": "qr(a)",
    "eigh": "eigh(a)",
    "svd": "svd(a)",
    "lstsq": "lstsq(a, x)",
    "ones": "ones(n)",
    "eye": "eye(n)",
    "stop_gradient": "stop_gradient(x)",
    "implicit": "implicit(lambda z: z - y, x)",
    "normal": "normal(k, n)",
    "uniform": "uniform(k, n)",
    "bernoulli": "bernoulli(k, 0.5, n)",
    "randint": "randint(k, 0, 9, n)",
    "categorical": "categorical(k, x)",
    "permutation": "permutation(k, n)",
    "fold": "fold(k, 1)",
}
"""Calls of functions for which the first case of the tests is not the plainest."""

SAMPLE = "def f[n](x: f64[n], y: f64[n], c: bool[n], a: f64[n, n], k: key):\n    return "
UNSAID = {"constant", "size", "cast", "index", "call", "iota", "check", "accumulate", "space"}
"""Ops that stand between others and tell nothing."""

HEAD = """## The functions of the language

Every function that a program can call without an import. *Made of* are the ops that it becomes, beside constants,
reads, index spaces and changes of dtype, shown for one way to call it.
"""

KINKS_HEAD = """## Kinks

Where a function has no derivative, or its formula does not give it, one is chosen, the same in forward and reverse mode
and to every order. Where nothing arrives, nothing is passed on: a tangent or cotangent that is exactly 0 stays 0 even
where a slope is infinite, and a factor of exactly 0 stops an infinite one. So the derivative of `sqrt` at 0 is inf only
where something depends on it. *second* is the second derivative with respect to x.
"""


def escaped(text: str) -> str:
    """Text for a table."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def ops_of(region: Region) -> list[str]:
    """The names of the ops in a region, in the order of their first use."""
    found: dict[str, None] = {}
    for node in region.nodes:
        found.setdefault(node.op.name)
        for inner in node.regions:
            found.update(dict.fromkeys(ops_of(inner)))
    return [name for name in found if name not in UNSAID]


def sample(name: str) -> str | None:
    """A program that calls a function."""
    if name in SAMPLES:
        return SAMPLE + SAMPLES[name] + "\n"
    calls = [(x, text) for text, (x,), _ in CASES if text.startswith(f"{name}(") and x.size]
    floats = [call for call in calls if call[0].dtype == np.float64] or calls
    return header(floats[0][0]) + floats[0][1] + "\n" if floats else None


def made_of(name: str) -> str:
    """The ops that a function becomes."""
    text = sample(name)
    if text is None:
        return ""
    return ", ".join(f"`{op}`" for op in ops_of(lower_function(parse_program(text), "f").region))


def of_the_library() -> dict[str, Function]:
    """The functions that every program sees and that are written in the language."""
    prelude = parse_program("").prelude
    assert prelude is not None
    entries: list[tuple[str, Entry]] = list(prelude.names.items())
    return {name: entry.item for name, entry in entries if isinstance(entry.item, Function)}


def written(function: Function) -> str:
    """A function of the library as it is called, with what it says of itself."""
    formals = ", ".join(formal.name for formal in function.formals)
    return f"`{function.name}({formals})`: {function.doc[0].lower() + function.doc[1:]}"


def section() -> list[str]:
    """The lines about the functions of the language, and the table of kinks."""
    meanings = functions_of_the_language()
    library = of_the_library()
    lines = [HEAD]
    for title, names in GROUPS.items():
        lines += [f"### {title}", "", "| function | meaning | made of |", "|---|---|---|"]
        for name in names:
            meaning = meanings[name] if name in meanings else written(library[name])
            lines.append(f"| `{name}` | {escaped(meaning)} | {made_of(name)} |")
        lines.append("")
    grouped = {name for names in GROUPS.values() for name in names}
    lines += ["### Initialisers, losses and optimisers", "", "| function | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {escaped(written(f))} |" for name, f in library.items() if name not in grouped and f.doc]
    lines += ["", KINKS_HEAD, *table(), ""]
    return lines


def known() -> set[str]:
    """Every name that the tables of the front end hold."""
    return {name for name in {*BUILTINS, *SYNTACTIC} if not name.startswith("_")}
