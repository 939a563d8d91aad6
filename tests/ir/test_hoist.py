"""Loop-invariant work leaves loops; what could fault, and what stands in a choice, does not."""

import numpy as np

from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Region, Value
from dgraph.ir.hoist import hoist
from dgraph.ir.op import OPS
from dgraph.ir.verify import verify_region
from dgraph.sizes import variable
from dgraph.types import F64, I64, Array, array

N = variable("n")
NUMBER = Array(F64)


def outer(region: Region) -> list[str]:
    return [node.op.name for node in region.nodes]


def inner(region: Region) -> list[str]:
    return [node.op.name for node in region.nodes[-1].regions[-1].nodes]


def hoisted(g: Builder, output: Value, **options) -> Region:
    region = hoist(g.close([output]), **options)
    verify_region(region)
    return region


def test_a_chain_of_invariants_leaves_with_the_constants_it_reads():
    g = Builder()
    w = g.input(array(F64, 2))

    def body(h, _i, carried, _walked):
        ones = h.full(1.0, array(F64, 2))
        factor = h.sub(ones, h.mul(h.sin(w), w))
        return [h.mul(carried[0], h.add(factor, ones))]

    (c,) = g.for_(g.number(N), [w], body, length=N)
    region = hoisted(g, c)
    assert outer(region) == ["size", "sin", "mul", "constant", "broadcast", "sub", "add", "for"]
    assert inner(region) == ["constant", "broadcast", "mul"]
    values = np.array([0.3, 0.7])
    factor = 2 - np.sin(values) * values
    np.testing.assert_allclose(Interpreter({"n": 3}).run(region, [values])[0], values * factor**3, rtol=1e-15)


def test_out_of_a_nest():
    g = Builder()
    w = g.input(NUMBER)

    def body(h, _i, carried, _walked):
        return h.for_(h.number(N), carried, lambda p, _j, inside, _w: [p.mul(inside[0], p.exp(w))])

    (c,) = g.for_(g.number(N), [w], body)
    assert outer(hoisted(g, c)) == ["size", "exp", "for"]


def test_out_of_a_while_and_its_condition_still_fits():
    g = Builder()
    w = g.input(NUMBER)

    def body(h, carried):
        return [h.add(carried[0], h.exp(w))]

    c, _trips = g.while_([w], lambda h, carried: h.less(carried[0], h.constant(9.0, F64)), body)
    region = hoisted(g, c)
    assert outer(region) == ["exp", "while"]
    assert Interpreter({}).run(region, [np.float64(1.0)])[0] == 1 + 3 * np.exp(1.0)


def test_out_of_an_index_space_if_asked():
    g = Builder()
    w, x = g.input(NUMBER), g.input(array(F64, N))
    y = g.map([N], lambda h, i: h.mul(h.index(x, i), h.exp(w)))
    region = g.close([y])
    assert hoist(region) is region
    assert outer(hoist(region, loops=("space",))) == ["exp", "space"]


def test_nothing_leaves_a_choice():
    g = Builder()
    w = g.input(NUMBER)

    def body(h, i, carried, _walked):
        return h.if_(h.less(i, h.constant(2, I64)), lambda b: [b.mul(carried[0], b.sqrt(w))], lambda _b: carried)

    (c,) = g.for_(g.number(N), [w], body)
    region = g.close([c])
    assert hoist(region) is region


def test_a_read_known_to_be_inside_because_the_loop_makes_a_step():
    """The loop may make none: then the read gives 0 instead of going astray."""
    g = Builder()
    x = g.input(array(F64, N))

    def body(h, _i, carried, _walked):
        last = h.sub(h.number(N), h.constant(1, I64))
        return [h.mul(carried[0], h.sin(h.index(x, last, policy="proven")))]

    (c,) = g.for_(g.number(N), [g.constant(2.0, F64)], body)
    region = hoisted(g, c)
    assert "sin" in outer(region)
    assert Interpreter({"n": 0}).run(region, [np.zeros(0)])[0] == 2.0


def test_a_read_that_may_be_outside_stays():
    g = Builder()
    x, at = g.input(array(F64, N)), g.input(Array(I64))
    (c,) = g.for_(g.number(N), [g.constant(2.0, F64)], lambda h, _i, k, _w: [h.mul(k[0], h.index(x, at))])
    region = g.close([c])
    assert hoist(region) is region


def test_checks_and_whiles_stay():
    g = Builder()
    w = g.input(NUMBER)

    def body(h, _i, carried, _walked):
        h.apply(OPS["check"](), h.less(h.constant(0.0, F64), w))
        big, _trips = h.while_(
            [w], lambda p, inside: p.less(inside[0], p.constant(9.0, F64)), lambda p, inside: [p.mul(inside[0], w)]
        )
        return [h.add(carried[0], big)]

    (c,) = g.for_(g.number(N), [w], body)
    region = hoisted(g, c)
    assert {"check", "while"} <= set(inner(region))


def test_the_caller_can_object():
    g = Builder()
    w = g.input(NUMBER)
    (c,) = g.for_(g.number(N), [w], lambda h, _i, k, _w: [h.mul(k[0], h.mul(h.sin(w), h.exp(w)))])
    region = hoisted(g, c, may_move=lambda _loop, node: node.op.name != "exp")
    assert outer(region) == ["size", "sin", "for"]


def test_scopes_are_those_of_the_loop():
    g = Builder()
    w = g.input(NUMBER)

    def body(h, _i, carried, _walked):
        with h.at(scope=("cell",)):
            return [h.mul(carried[0], h.exp(w))]

    with g.at(scope=("network",)):
        (c,) = g.for_(g.number(N), [w], body)
    region = hoisted(g, c)
    (node,) = [node for node in region.nodes if node.op.name == "exp"]
    assert node.scope == ("network", "cell")
