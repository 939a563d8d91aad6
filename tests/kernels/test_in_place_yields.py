"""A space writes its entries over an array of which each point reads only its own entry, if nothing needs it later."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Call, Copy, Fill, Loop
from dgraph.program.pipeline import stage

PROGRAM = dg.parse("""
def scaled[n](x: f64[n]) -> f64[n]:
    e[i] = exp(x[i])
    total = sum(e[i] for i)
    return [e[i] / total for i]

def turned[n](x: f64[n]) -> f64[n]:
    e[i] = exp(x[i])
    total = sum(e[i] for i)
    return [e[n - 1 - i] / total for i]

def kept[n](x: f64[n]) -> (f64[n], f64[n]):
    e[i] = exp(x[i])
    total = sum(e[i] for i)
    return [e[i] / total for i], e

def rows[n, k](x: f64[n, k]) -> f64[n, k]:
    e[i, j] = exp(x[i, j])
    total = sum(e[i, j] for i, j)
    return [e[i, 0] * e[i, j] / total for i, j]

def logarithm[n](x: f64[n]) -> f64:
    top = max(x)
    return top + log(sum(exp(x[i] - top) for i))

def slope[n](x: f64[n]) -> f64[n] = grad(logarithm)(x)
""")
X = np.linspace(-1.0, 2.0, 1000)
E = np.exp(X)


def call(name: str, x: np.ndarray) -> tuple[object, int]:
    step = dg.compile(getattr(PROGRAM, name))
    return step(x), step.memory(x).arena


@pytest.mark.parametrize("name", ["scaled", "slope"])
def test_the_array_lies_where_the_result_will(name: str):
    found, arena = call(name, X)
    assert found == pytest.approx(E / E.sum(), rel=1e-13)
    assert arena < X.nbytes


def test_other_entries_are_read_before_they_are_gone():
    assert call("turned", X)[0] == pytest.approx(E[::-1] / E.sum(), rel=1e-13)
    table = X.reshape(100, 10)
    e = np.exp(table)
    assert call("rows", table)[0] == pytest.approx(e[:, :1] * e / e.sum(), rel=1e-13)


def test_what_is_returned_stays():
    one, other = call("kept", X)[0]
    assert one == pytest.approx(E / E.sum(), rel=1e-13)
    assert other == pytest.approx(E, rel=1e-15)


def test_what_is_added_up_does_not_lie_where_its_terms_are_read():
    program = dg.parse(
        """
def spread[n](x: f64[n]) -> f64[n]:
    y[i] = (x[i - 1] if i > 0 else 1.0) + 2.0 * (x[i + 1] if i + 1 < n else 0.0) for i in range(n)
    return y

def energy[n](x: f64[n]) -> f64:
    for t in range(3):
        x = x + 0.1 * spread(spread(x))
    return sum(x)

@entry
def slope[n](x: f64[n]) -> f64[n] = grad(energy)(x)
"""
    )
    n = 9
    spread = np.eye(n, k=-1) + 2.0 * np.eye(n, k=1)
    step = np.eye(n) + 0.1 * spread @ spread
    wanted = np.ones(n) @ np.linalg.matrix_power(step, 3)
    assert dg.compile(program.slope)(np.linspace(0.0, 1.0, n)) == pytest.approx(wanted, rel=1e-13)


def test_what_a_step_adds_to_starts_as_what_it_got():
    """An array that is carried backwards is neither cleared nor copied at every step."""
    program = dg.parse(
        """
def table[n](x: f64[n]) -> f64:
    best: f64[n] = 0.0
    for i in range(n):
        total = x[i]
        for j in range(i):
            total += 0.5 * best[j] * x[j]
        best[i] = total
    return best[n - 1]

@entry
def slope[n](x: f64[n]) -> f64[n] = grad(table)(x)
"""
    )
    graph = stage(program.slope.graph, "kernels")
    body = plan_graph(graph).body
    backwards = next(s for s in walk(body) if isinstance(s, Loop) and s.kind == "reverse")
    assert not any(isinstance(s, Fill | Copy | Call) for s in walk(backwards.body))
    x = np.linspace(0.3, 0.9, 7)
    (wanted,) = evaluate(graph, [x])
    assert dg.compile(program.slope)(x) == pytest.approx(wanted, rel=1e-14)
