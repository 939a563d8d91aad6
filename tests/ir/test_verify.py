"""What is not a legal graph is refused, and why is said."""

from dataclasses import replace

import pytest

import dgraph.ops  # noqa: F401
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph, Node, Region, Value
from dgraph.ir.op import OPS
from dgraph.ir.verify import verify
from dgraph.sizes import variable
from dgraph.types import F32, F64, Accumulator, Array, Tuple

NUMBER = Array(F64)
SIN = OPS["sin"]()


def graph(inputs, nodes, outputs, sizes=()):
    region = Region(tuple(inputs), tuple(nodes), tuple(outputs))
    formals = tuple(Formal(value.name, value.type) for value in inputs)
    types = tuple(value.type for value in outputs)
    return Graph("f", sizes, formals, types[0] if len(types) == 1 else Tuple(types), region)


def refused(graph_, words):
    with pytest.raises(InvalidGraph, match=words):
        verify(graph_)


def test_a_legal_graph_is_returned():
    x, y = Value(NUMBER, "x"), Value(NUMBER)
    legal = graph([x], [Node(SIN, (x,), (y,))], [y])
    assert verify(legal) is legal


def test_reading_before_definition():
    x, y, z = Value(NUMBER, "x"), Value(NUMBER), Value(NUMBER)
    refused(graph([x], [Node(SIN, (z,), (y,)), Node(SIN, (x,), (z,))], [y]), "before it is defined")
    refused(graph([x], [], [y]), "output .* is not defined")


def test_two_definitions():
    x, y = Value(NUMBER, "x"), Value(NUMBER)
    refused(graph([x], [Node(SIN, (x,), (y,)), Node(SIN, (x,), (y,))], [y]), "defined twice")
    refused(graph([x, x], [], [x]), "defined twice")


def test_result_types_are_what_the_op_infers():
    x, y = Value(NUMBER, "x"), Value(Array(F32))
    refused(graph([x], [Node(SIN, (x,), (y,))], [y]), "results should be")
    z = Value(Array(F64, (variable("n"),)), "z")
    refused(graph([x, z], [Node(OPS["add"](), (x, z), (Value(NUMBER),))], [x], ("n",)), "differ")


def test_regions_read_nothing_from_outside():
    g = Builder()
    x = g.input(NUMBER, "x")
    a = g.sin(x)
    (y,) = g.if_(g.less(a, x), lambda h: [h.cos(a)], lambda _h: [x])
    region = g.close([y])
    choice = region.nodes[-1]
    then = choice.regions[0]
    leak = replace(then.nodes[0], operands=(a,))
    broken = replace(choice, regions=(Region(then.inputs, (leak,), then.outputs), choice.regions[1]))
    whole = Region(region.inputs, (*region.nodes[:-1], broken), region.outputs)
    refused(graph([x], whole.nodes, whole.outputs), "outside its region")
    verify(graph([x], region.nodes, region.outputs))


def test_captures_fit_the_inputs_of_the_region():
    g = Builder()
    x = g.input(NUMBER, "x")
    p = g.less(x, x)
    (y,) = g.if_(p, lambda _h: [x], lambda h: [h.sin(x)])
    region = g.close([y])
    choice = region.nodes[-1]
    refused(graph([x], [*region.nodes[:-1], replace(choice, operands=(p,))], [y]), "capture")
    refused(graph([x], [*region.nodes[:-1], replace(choice, operands=(x, x))], [y]), "predicate")


def test_an_accumulator_is_used_once():
    g = Builder()
    x = g.input(NUMBER, "x")
    opened = g.zeros(Accumulator(F64))
    one, other = g.accumulate(opened, x), g.accumulate(opened, x)
    region = g.close([g.add(g.freeze(one), g.freeze(other))])
    refused(graph([x], region.nodes, region.outputs), "used 2 times")


def test_an_accumulator_that_leaves_and_is_used_inside():
    g = Builder()
    x = g.input(NUMBER, "x")

    def point(h, _indices, _threads, own):
        written = h.accumulate(own[0], x)
        return [written, written]

    with pytest.raises(InvalidGraph):
        g.space((variable("n"),), point, buffers=[Accumulator(F64), Accumulator(F64)])
        region = g.close([x])
        verify(graph([x], region.nodes, region.outputs, ("n",)))


def test_formals_and_result_are_the_leaves():
    x = Value(NUMBER, "x")
    legal = graph([x], [], [x])
    refused(replace(legal, formals=()), "inputs differ")
    refused(replace(legal, result=Array(F32)), "outputs differ")
    wide = Value(Array(F64, (variable("n"),)), "w")
    refused(graph([wide], [], [wide]), "undeclared size")
