"""Innermost loops that ask for lanes: which do, and that every length and both routes give the same bits."""

# Bodies of spaces are called with more than each of them uses.

import numpy as np
import pytest
from nest_graphs import N, check, make_graph

import dgraph as dg
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Apply, Buffer, Extent, Let, Load, Local, Loop, Statement, Store, Update, number
from dgraph.kernels.straight_lanes import with_straight_lanes
from dgraph.kernels.views import plus
from dgraph.sizes import Size
from dgraph.types import F64, Accumulator, Array

VECTOR = Array(F64, (N,))
LENGTHS = [0, 1, 7, 8, 9, 14, 15, 16, 17, 31, 33]


def lanes_of(*body: Statement, index: Local, stop: Size = N) -> int:
    """The lanes of a loop over points after the choice."""
    (loop,) = with_straight_lanes((Loop(index, Extent(stop), body, "parallel"),))
    assert isinstance(loop, Loop)
    return loop.lanes


def exponential(buffer: Buffer, at) -> Apply:
    return Apply("exp", "f64", (Load(buffer, at),))


def array(name: str, type_: str = "f64") -> Buffer:
    return Buffer(name, type_, 4 * N)


def test_elementary_functions_ask_for_lanes_and_copies_do_not():
    i, x, y = Local("i", "i64"), array("x"), array("y")
    assert lanes_of(Store(y, i, exponential(x, i)), index=i) == 8
    assert lanes_of(Store(y, i, Load(x, i)), index=i) == 0


def test_single_precision_fills_a_register():
    i, x, y = Local("i", "i64"), array("x", "f32"), array("y", "f32")
    assert lanes_of(Store(y, i, Apply("exp", "f32", (Load(x, i),))), index=i) == 16


def test_points_may_add_to_rows_that_are_apart_in_the_order_of_their_statements():
    i, k, x, y = Local("i", "i64"), Local("k", "i64"), array("x"), array("y")
    row = Apply("mul", "i64", (k, Extent(2 * N)))
    term = exponential(x, i)
    here, there, beside = plus(row, i), plus(plus(row, i), Extent(N)), plus(plus(row, i), number(1))
    assert lanes_of(Update(y, here, term, "add"), Update(y, there, term, "add"), index=i) == 8
    assert lanes_of(Update(y, here, term, "add"), Update(y, here, term, "add"), index=i) == 8
    assert lanes_of(Update(y, here, term, "add"), Update(y, beside, term, "add"), index=i) == 0
    assert lanes_of(Update(y, here, term, "add"), Update(y, there, term, "add"), index=i, stop=N + 1) == 0


def test_what_a_turn_leaves_to_the_next_needs_the_order():
    i, x, y, total = Local("i", "i64"), array("x"), array("y"), Local("total", "f64")
    grown = Apply("add", "f64", (total, exponential(x, i)))
    assert lanes_of(Let(total, grown), index=i) == 0
    assert lanes_of(Store(y, plus(i, number(1)), exponential(y, i)), index=i) == 0
    assert lanes_of(Store(y, number(3), exponential(x, i)), index=i) == 0


def test_entries_that_do_not_lie_in_a_row_are_left():
    i, x, y, at = Local("i", "i64"), array("x"), array("y"), Buffer("at", "i64", N)
    assert lanes_of(Store(y, i, exponential(x, Load(at, i))), index=i) == 0
    assert lanes_of(Store(y, i, exponential(x, Apply("mul", "i64", (i, number(2))))), index=i) == 0
    assert lanes_of(Store(y, i, exponential(x, Apply("mul", "i64", (i, i)))), index=i) == 0
    j = Local("j", "i64")
    assert lanes_of(Let(j, plus(i, number(1))), Store(y, j, exponential(x, j)), index=i) == 8


@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(n: int):
    def build(g, x, y):
        def point(h, at, _threads, own):
            (i,) = at
            a, b = h.index(x, i, policy="proven"), h.index(y, i, policy="proven")
            e = h.tanh(h.add(h.mul(a, b), h.exp(a)))
            j = h.add(i, h.number(N))
            buffer = h.accumulate(own[0], i, e, policy="proven")
            return [h.accumulate(buffer, j, h.sub(e, b), policy="proven"), h.div(e, h.exp(b))]

        return list(g.space([N], point, buffers=[Accumulator(F64, (N + N,))]))

    graph = make_graph([("x", VECTOR), ("y", VECTOR)], build)
    kernels = plan_graph(graph).kernels
    found = [s.lanes for kernel in kernels for s in walk(kernel.body) if isinstance(s, Loop)]
    assert 8 in found
    check(graph, {"n": n}, ulp=4)


@pytest.mark.parametrize("n", LENGTHS)
def test_a_stencil_of_every_length(n: int):
    program = dg.parse(
        """
def smooth[n](x: f64[n], w: f64[n]) -> f64[n]:
    y[i] = w[i] * (x[i - 1] if i > 0 else 1.0) + (x[i + 1] if i + 1 < n else exp(w[i])) for i in range(n)
    return y

@entry
def energy[n](x: f64[n], w: f64[n]) -> f64:
    for t in range(3):
        x = x + 0.1 * smooth(smooth(x, w), w)
    return sum(x * x)

@entry
def slope[n](x: f64[n], w: f64[n]) -> (f64[n], f64[n]) = grad(energy, wrt=(x, w))(x, w)
"""
    )
    rng = np.random.default_rng(n)
    x, w = rng.standard_normal(n), rng.standard_normal(n)
    found = dg.compile(program.slope)(x, w)
    for one, direction in zip(found, ("x", "w"), strict=True):
        along = rng.standard_normal(n)
        up, down = (
            program.energy(*((x + s * along, w) if direction == "x" else (x, w + s * along))) for s in (1e-5, -1e-5)
        )
        assert np.sum(one * along) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-7)
