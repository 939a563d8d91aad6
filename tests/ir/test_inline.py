"""Calls become the nodes of their functions."""

import numpy as np

from dgraph.errors import Source, Span
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Region, walk
from dgraph.ir.inline import inline_calls
from dgraph.ir.verify import verify_region
from dgraph.sizes import variable
from dgraph.types import F64, Array, array

N = variable("n")
NUMBER = Array(F64)
LAYER = Span(Source("layers.dg", "tanh(x) * x"), 0, 7)


def layer() -> Region:
    f = Builder()
    x = f.input(NUMBER)
    with f.at(span=LAYER, scope=("act",)):
        y = f.tanh(x)
    return f.close([f.mul(y, x)])


def twice() -> Region:
    f = Builder()
    x = f.input(NUMBER)
    inner = layer()
    (y,) = f.call("layer", [x], inner)
    (z,) = f.call("layer", [y], inner)
    return f.close([z])


def test_calls_in_calls_and_in_regions():
    g = Builder()
    x = g.input(array(F64, N), "x")

    def point(h, i):
        with h.at(scope=("model",)):
            return h.call("twice", [h.index(x, i)], twice())[0]

    source = g.close([g.map([N], point)])
    region = inline_calls(source)
    verify_region(region)
    assert "call" not in [node.op.name for node in walk(region)]
    tanhs = [node for node in walk(region) if node.op.name == "tanh"]
    assert [node.scope for node in tanhs] == [("model", "twice", "layer", "act")] * 2
    assert [node.span for node in tanhs] == [LAYER] * 2
    values = np.array([0.3, -1.0])
    found, expected = (Interpreter({"n": 2}).run(r, [values])[0] for r in (region, source))
    np.testing.assert_array_equal(found, expected)


def test_a_call_that_returns_its_argument():
    g = Builder()
    x = g.input(NUMBER)
    f = Builder()
    a, b = f.input(NUMBER), f.input(NUMBER)
    region = f.close([b, a])
    p, q = g.call("swap", [x, g.sin(x)], region)
    found = inline_calls(g.close([p, q]))
    assert [node.op.name for node in found.nodes] == ["sin"]
    assert found.outputs == (found.nodes[0].result, x)


def test_a_region_without_calls_is_returned_itself():
    region = layer()
    assert inline_calls(region) is region
