"""Every transform of every transform, with respect to every kind of argument, of programs with every kind of control
flow, against dual numbers."""

import dual_numbers as dual
import numpy as np
import pytest
from dual_numbers import Arguments, Leaves, Reference, sin

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage
from dgraph.types import leaves

KINDS = {
    "array": ("", "a: f64[4], ", "a", [(4,)]),
    "matrix": ("", "a: f64[2, 2], ", "reshape(a, (4,))", [(2, 2)]),
    "record": (
        "record R:\n    p: f64\n    k: i32\n    q: f64[3]\n",
        "a: R, ",
        "concat([a.p], a.q)",
        [(), (3,)],
    ),
    "records": (
        "record S:\n    p: f64\n    q: f64\n",
        "a: S[2], ",
        "[a[0].p, a[0].q, a[1].p, a[1].q]",
        [(2,), (2,)],
    ),
    "tuple": ("", "a: (f64, f64[3]), ", "concat([a[0]], a[1])", [(), (3,)]),
    "param": (
        "record R:\n    p: f64 = 0.5\n    k: i32 = 2\n    q: f64[3] = ones()\n\nparam a: R\n",
        "",
        "concat([a.p], a.q)",
        [(), (3,)],
    ),
}
"""Declarations, the formal, its entries as an array of four, and the shapes of its float leaves."""


def entries_of(kind: str, given: Leaves) -> list:
    if kind == "records":
        return [given[0][0], given[1][0], given[0][1], given[1][1]]
    return [number for leaf in given for number in leaf.ravel()]


def formula(v, c):
    return sum((sin(v[i]) * v[i] * c for i in range(4)), 0.0) + v[0] * v[3] ** 2


def carry(v, c):
    s = c
    for t in range(4):
        s = s * v[t] + sin(s)
    return s


def repeat(v, c):
    s = v[0] ** 2 + c**2 + 1
    while s > 0.5:
        s = s * (sin(v[1]) * 0.1 + 1) * 0.5
    return s * v[2]


def choice(v, c):
    s = v[0] * c if v[1] > 0 else sin(v[0]) * v[1]
    return s + sum((x**3 if x > 0.2 else x * c * x for x in v), 0.0)


def update(v, c):
    z = list(v)
    for t in range(1, 4):
        z[t] = z[t] + z[t - 1] * c * v[t]
    z[0] = z[0] * z[3]
    return sum((a * b for a, b in zip(z, v, strict=True)), 0.0)


def gather(v, c):
    return sum((v[(2 * i + 1) % 4] * v[i] ** 2 for i in range(4)), c * v[2])


def inner(v, c):
    return sum((3 * x**2 * x * c * x for x in v), 0.0)


def largest(v, c):
    top = max(v, key=dual.plain)
    return top * c + sin(top) + top * v[0]


def called(v, c):
    def bump(x):
        return sin(x) * c + x**2

    return bump(bump(v[0])) + sum((bump(x) for x in v), 0.0)


FEATURES = {
    "formula": (formula, "    return sum(sin(v[i]) * v[i] * c for i) + v[0] * v[3] ** 2"),
    "carry": (carry, "    s = c\n    for t in range(4):\n        s = s * v[t] + sin(s)\n    return s"),
    "repeat": (
        repeat,
        "    s = v[0] ** 2 + c ** 2 + 1\n    while s > 0.5:\n        s = s * (sin(v[1]) * 0.1 + 1) * 0.5\n"
        "    return s * v[2]",
    ),
    "choice": (
        choice,
        "    if v[1] > 0:\n        s = v[0] * c\n    else:\n        s = sin(v[0]) * v[1]\n"
        "    return s + sum(v ** 3 if v > 0.2 else v * c * v)",
    ),
    "update": (
        update,
        "    z = v\n    for t in range(1, 4):\n        z[t] += z[t - 1] * c * v[t]\n    z[0] *= z[3]\n"
        "    return sum(z * v)",
    ),
    "gather": (gather, "    return sum(v[(2 * i + 1) % 4] * v[i] ** 2 for i in range(4)) + c * v[2]"),
    "inner": (inner, "    return dot(grad(lambda q: sum(q ** 3 * v) * c)(v), v)"),
    "largest": (largest, "    top = max(v)\n    return top * c + sin(top) + top * v[0]"),
    "called": (
        called,
        "    def bump(x: f64) -> f64 = sin(x) * c + x ** 2\n    return bump(bump(v[0])) + sum(bump(v[i]) for i)",
    ),
}
TRANSFORMS = ("grad", "value_and_grad", "jvp", "vjp", "jacobian", "hessian", "hvp", "vmap")
OF_SCALARS = ("grad", "value_and_grad", "hessian", "hvp")
"""Transforms of functions with a scalar result."""
FIRST_IS_SCALAR = ("value_and_grad", "jvp")
"""Transforms whose first result is the scalar of their function."""


def both(kind: str, feature: str, is_scalar: bool) -> tuple[dg.Function, Reference]:
    """`f(a, c)` in the language and in Python: a scalar, or a scalar and an array."""
    declared, formal, flat, _ = KINDS[kind]
    run, text = FEATURES[feature]
    program = dg.parse(
        f"{declared}\ndef g(v: f64[4], c: f64) -> f64:\n{text}\n\n"
        f"def f({formal}c: f64) -> (f64, f64[2]):\n    v = {flat}\n    return g(v, c), [v[1] * c, sin(v[2])]\n\n"
        f"def h({formal}c: f64) -> f64 = g({flat}, c)\n"
    )

    def reference(given: Arguments) -> Leaves:
        v, c = entries_of(kind, given["a"]), given["c"][0][()]
        value = np.empty((), object)
        value[()] = run(v, c)
        rest = np.empty(2, object)
        rest[:] = [v[1] * c, sin(v[2])]
        return [value] if is_scalar else [value, rest]

    return program.h if is_scalar else program.f, Reference(("a", "c"), reference)


def compare(function: dg.Function, reference: Reference, seed: int) -> None:
    """Equal at a random point."""
    source, _ = lower(function.program.module, function.recipe)
    graph = stage(source, "expand")
    random = np.random.default_rng(seed)
    given: Arguments = {}
    values: list[np.ndarray] = []
    for formal in graph.formals:
        given[formal.name] = []
        for _, leaf in leaves(formal.type):
            shape = tuple(extent.evaluate(lambda _: 2) for extent in leaf.shape)
            if not leaf.dtype.is_float:
                values.append(np.full(shape, 2, leaf.dtype.numpy))
                continue
            values.append(np.asarray(random.uniform(0.3, 0.9, shape) * random.choice([-1, 1], shape)))
            given[formal.name].append(values[-1].astype(object))
    found = [leaf for leaf in map(np.asarray, evaluate(graph, values)) if leaf.dtype == np.float64]
    expected = reference.run(given)
    assert [leaf.shape for leaf in found] == [leaf.shape for leaf in expected]
    for one, other in zip(found, expected, strict=True):
        truth = np.array([dual.plain(number) for number in other.ravel()]).reshape(other.shape)
        np.testing.assert_allclose(one, truth, rtol=1e-10, atol=1e-11)


def transformed(
    name: str, function: dg.Function, reference: Reference, wrt: tuple[str, ...]
) -> tuple[dg.Function, Reference]:
    names = wrt if len(wrt) > 1 else wrt[0]
    return getattr(dg, name)(function, names), getattr(dual, name)(reference, wrt)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_one_transform(name: str, kind: str):
    for seed, feature in enumerate(FEATURES):
        for wrt in (("a",), ("c",), ("a", "c")):
            compare(*transformed(name, *both(kind, feature, False), wrt), seed)


@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_two_transforms(name: str, outer: str):
    """Kinds and features take turns; what wants a scalar is given one."""
    is_scalar = outer in OF_SCALARS
    for seed, feature in enumerate(FEATURES):
        kind = list(KINDS)[(seed + len(name) + len(outer)) % len(KINDS)]
        wrt = ("c",) if is_scalar and name not in FIRST_IS_SCALAR else [("a",), ("c",), ("a", "c")][seed % 3]
        once = transformed(name, *both(kind, feature, is_scalar), wrt)
        if is_scalar and name == "vmap":
            with pytest.raises(dg.DgraphError, match="scalar float result"):
                _ = getattr(dg, outer)(once[0]).graph
            continue
        compare(*transformed(outer, *once, [("a",), ("a", "c"), ("c",)][seed % 3]), seed)


@pytest.mark.parametrize("inner", ["grad", "jvp", "vjp", "jacobian"])
@pytest.mark.parametrize("middle", ["jvp", "vjp", "jacobian", "vmap"])
@pytest.mark.parametrize("outer", ["jvp", "vjp", "jacobian", "vmap"])
def test_three_transforms(inner: str, middle: str, outer: str):
    feature = list(FEATURES)[(len(inner) + 2 * len(middle) + 3 * len(outer)) % len(FEATURES)]
    once = transformed(inner, *both("record", feature, True), ("c",))
    twice = transformed(middle, *once, ("a",))
    compare(*transformed(outer, *twice, ("c",)), 0)
