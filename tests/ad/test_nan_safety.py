"""Derivatives where the side of a choice that is not taken has infinite ones."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
from ad_check import Example, build, gradient, real, reverse_over_reverse, run, whole

from dgraph.ad.prepare import prepare
from dgraph.ad.sink import sink
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value, walk
from dgraph.ir.inline import inline_calls
from dgraph.sizes import size, variable
from dgraph.types import F64, Array, array

N = variable("n")
NUMBER = Array(F64)


def positive(h: Builder, x: Value) -> Value:
    return h.less(real(h, 0.0), x)


def total(h: Builder, x: Value) -> Value:
    return h.reduce_sum(x, axes=(0,))


def choose(h: Builder, predicate: Value, then: Callable[..., Value], otherwise: Callable[..., Value]) -> Value:
    return h.if_(predicate, lambda b: [then(b)], lambda b: [otherwise(b)])[0]


def scalar(g, x):
    s = g.sqrt(x)
    t = g.mul(g.log(s), s)
    y = choose(g, positive(g, x), lambda b: b.add(t, b.mul(x, s)), lambda b: b.mul(b.mul(x, x), x))
    return g.add(y, g.mul(x, x))


def per_point(g, x):
    def point(h, i):
        v = h.index(x, i)
        s = h.sqrt(v)
        t = h.mul(h.log(s), s)
        return choose(h, positive(h, v), lambda b: b.add(t, b.mul(v, s)), lambda b: b.mul(v, b.mul(v, v)))

    y = g.map([N], point)
    return total(g, g.add(y, g.mul(y, y)))


def two_choices(g, x):
    s = g.log(x)
    p = positive(g, x)
    a = choose(g, p, lambda b: b.mul(s, x), lambda b: b.mul(x, x))
    b = choose(g, p, lambda b: b.add(s, x), lambda _b: x)
    return g.add(a, b)


def array_producer(g, x):
    s = g.sqrt(x)
    t = g.mul(g.mul(g.log(s), s), g.broadcast(real(g, 2.0), shape=(N,)))

    def point(h, i):
        v = h.index(x, i)
        return choose(
            h,
            positive(h, v),
            lambda b: b.mul(b.index(t, i), b.index(x, i)),
            lambda b: b.mul(real(b, 2.0), b.mul(v, v)),
        )

    return total(g, g.map([N], point))


def read_before_the_choice(g, x):
    """The entry of the array is bound in the point and used on one side."""
    s = g.log(x)

    def point(h, i):
        entry = h.mul(h.index(s, i, policy="proven"), real(h, 3.0))
        v = h.index(x, i)
        return choose(h, positive(h, v), lambda b: b.mul(entry, v), lambda b: b.mul(v, v))

    return total(g, g.map([N], point))


def formula_producer(g, x):
    """The array is itself an index formula."""
    s = g.map([N], lambda h, i: h.log(h.index(x, i)))

    def point(h, i):
        v = h.index(x, i)
        return choose(h, positive(h, v), lambda b: b.mul(b.index(s, i, policy="proven"), v), lambda b: b.mul(v, v))

    return total(g, g.map([N], point))


def scalar_spread_over_an_array(g, a, x):
    """A number made an array and read at points, on one side only."""
    s = g.add(g.broadcast(g.log(a), shape=(N,)), x)

    def point(h, i):
        v = h.index(x, i)
        return choose(h, positive(h, v), lambda b: b.mul(b.index(s, i, policy="proven"), v), lambda b: b.mul(v, v))

    return total(g, g.map([N], point))


def outside_a_loop(g, a, x):
    s = g.log(g.sqrt(a))

    def body(h, i, carried, _walked):
        (c,) = carried
        v = h.index(x, i)
        return [choose(h, positive(h, v), lambda b: b.mul(c, s), lambda b: b.sin(b.mul(c, v)))]

    return g.for_(g.number(N), [real(g, 0.5)], body)[0]


def outside_a_while(g, a, x):
    s = g.log(g.sqrt(a))

    def body(h, carried):
        c, i = carried
        v = h.index(x, i)
        c = choose(h, positive(h, v), lambda b: b.mul(c, s), lambda b: b.sin(b.mul(c, v)))
        return [c, h.add(i, whole(h, 1))]

    return g.while_([real(g, 0.5), whole(g, 0)], lambda h, carried: h.less(carried[1], h.number(N)), body)[0]


def outside_a_space(g, a, x):
    s = g.log(g.sqrt(a))

    def point(h, i):
        v = h.index(x, i)
        return choose(h, positive(h, v), lambda b: b.mul(v, s), lambda b: b.mul(v, v))

    return total(g, g.map([N], point))


def inside_a_loop(g, a, x):
    def body(h, i, carried, _walked):
        (c,) = carried
        v = h.index(x, i)
        s = h.log(h.sqrt(v))
        return [choose(h, positive(h, v), lambda b: b.mul(c, s), lambda b: b.sin(b.mul(c, v)))]

    return g.for_(g.number(N), [a], body)[0]


def overflow(g, x):
    """exp of a large number, needed for small ones only."""
    e = g.exp(x)
    return choose(g, g.less(x, real(g, 30.0)), lambda b: b.log(b.add(real(b, 1.0), e)), lambda b: b.mul(x, x))


def loop_on_one_side(g, a, x):
    """A loop that is itself needed on one side only, with a choice in its body."""
    s = g.sqrt(a)

    def body(h, i, carried, _walked):
        v = h.index(x, i, policy="proven")
        r = h.sqrt(v)
        return [choose(h, positive(h, v), lambda b: b.mul(carried[0], b.add(r, s)), lambda b: b.mul(carried[0], v))]

    (c,) = g.for_(g.number(N), [real(g, 1.0)], body)
    return choose(g, positive(g, a), lambda b: b.mul(c, a), lambda b: b.sum_over([N], F64, lambda p, i: p.index(x, i)))


def space_on_one_side(g, a, x):
    """An array producer whose entries are read in a space that is itself needed on one side only."""
    s = g.log(x)

    def point(h, i):
        v = h.index(x, i, policy="proven")
        return choose(h, positive(h, v), lambda b: b.mul(b.index(s, i, policy="proven"), a), lambda b: b.mul(v, v))

    y = g.map([N], point)
    return choose(g, positive(g, a), lambda b: total(b, b.mul(y, y)), lambda b: b.mul(a, a))


HARD = np.array([-1.0, -2.0, 0.0, -0.1])
SITUATIONS = {
    scalar: (0.0,),
    per_point: (np.array([0.0, 1.0, 4.0, -1.0]),),
    two_choices: (0.0,),
    array_producer: (np.array([0.0, 1.0, 4.0, -1.0]),),
    read_before_the_choice: (np.array([0.0, 1.0, 4.0, -1.0]),),
    formula_producer: (np.array([0.0, 1.0, 4.0, -1.0]),),
    scalar_spread_over_an_array: (0.0, HARD),
    outside_a_loop: (0.0, HARD),
    outside_a_while: (0.0, HARD),
    outside_a_space: (0.0, HARD),
    inside_a_loop: (0.4, np.array([-1.0, 2.0, 0.0, -0.1])),
    overflow: (800.0,),
    loop_on_one_side: (0.0, np.array([-1.0, 2.0, 0.0, -0.1])),
    space_on_one_side: (1.5, np.array([-1.0, 2.0, 0.0, -0.1])),
}


def example(body: Callable[..., Value]) -> Example:
    arguments = SITUATIONS[body]
    types = [array(F64, N) if np.ndim(argument) else NUMBER for argument in arguments]
    return Example(build(types, body), arguments, tuple(range(len(arguments))), (("n", 4),))


def derivatives(found: Example) -> list[np.ndarray]:
    reverse = gradient(found)
    first = run(reverse, [*found.arguments, 1.0], found.sizes)[1:]
    ones = [np.ones(np.shape(argument)) for argument in found.arguments]
    second = run(reverse_over_reverse(found, reverse), [*found.arguments, 1.0, *ones], found.sizes)[len(ones) + 1 :]
    return [*first, *second]


def expected(body: Callable[..., Value]) -> list[np.ndarray]:
    """First derivatives, then the sums of second ones, by hand."""
    x = SITUATIONS[body][-1]
    up = np.asarray(x) > 0
    inside = np.where(up, x, 1.0)
    root, logarithm = np.sqrt(inside), np.log(inside)
    zero = np.float64(0.0)
    match body.__name__:
        case "scalar":
            return [zero, np.float64(2.0)]
        case "two_choices":
            return [np.float64(1.0), np.float64(2.0)]
        case "overflow":
            return [np.float64(1600.0), np.float64(2.0)]
        case "per_point":
            y = np.where(up, np.log(root) * root + x * root, x**3)
            slope = np.where(up, (np.log(root) + 1) / (2 * root) + 1.5 * root, 3 * x**2)
            curve = np.where(up, -np.log(root) / (4 * root**3) + 0.75 / root, 6 * x)
            return [(1 + 2 * y) * slope, 2 * slope**2 + (1 + 2 * y) * curve]
        case "array_producer":
            slope = np.where(up, 2 * (1.5 * root * np.log(root) + 0.5 * root), 4 * x)
            curve = np.where(up, 2 * (0.75 * np.log(root) + 0.75 + 0.25) / root, 4.0)
            return [slope, curve]
        case "read_before_the_choice":
            return [np.where(up, 3 * (logarithm + 1), 2 * x), np.where(up, 3 / inside, 2.0)]
        case "formula_producer":
            return [np.where(up, logarithm + 1, 2 * x), np.where(up, 1 / inside, 2.0)]
        case "scalar_spread_over_an_array" | "outside_a_space":
            return [zero, 2 * x, zero, np.full(4, 2.0)]
        case "loop_on_one_side":
            return [zero, np.ones(4), zero, np.zeros(4)]
        case "space_on_one_side":
            a, ratio = 1.5, logarithm / inside
            return [
                np.float64(2 * a * (logarithm[up] ** 2).sum()),
                np.where(up, 2 * a**2 * ratio, 4 * x**3),
                np.float64(2 * (logarithm[up] ** 2).sum() + 4 * a * ratio[up].sum()),
                np.where(up, 4 * a * ratio + 2 * a**2 * (1 - logarithm) / inside**2, 12 * x**2),
            ]
    raise KeyError(body.__name__)


LOOPS = [outside_a_loop, outside_a_while, inside_a_loop]
BY_HAND = [body for body in SITUATIONS if body not in LOOPS]


@pytest.mark.parametrize("body", BY_HAND)
def test_derivatives_are_those_of_the_side_taken(body: Callable[..., Value]):
    for found, wanted in zip(derivatives(example(body)), expected(body), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def same_loop_without_the_other_side(body: Callable[..., Value]) -> Example:
    """The loops of this file where the steps that are not on the bad side are written out one by one."""

    def straight(g: Builder, a: Value, x: Value) -> Value:
        c = a if body is inside_a_loop else real(g, 0.5)
        for i, entry in enumerate(SITUATIONS[body][1]):
            v = g.index(x, whole(g, i))
            c = g.mul(c, g.log(g.sqrt(v))) if entry > 0 else g.sin(g.mul(c, v))
        return c

    return Example(build([NUMBER, array(F64, N)], straight), SITUATIONS[body], (0, 1), (("n", 4),))


@pytest.mark.parametrize("body", LOOPS)
def test_derivatives_of_loops_are_those_of_the_steps_taken(body: Callable[..., Value]):
    straight = derivatives(same_loop_without_the_other_side(body))
    for found, wanted in zip(derivatives(example(body)), straight, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("body", SITUATIONS)
def test_each_situation_needs_preparation(body: Callable[..., Value], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["dgraph.ad.vjp"], "prepare", inline_calls)
    assert not all(np.isfinite(found).all() for found in derivatives(example(body)))


@pytest.mark.parametrize("body", SITUATIONS)
def test_preparation_changes_no_value(body: Callable[..., Value]):
    found = example(body)
    region = prepare(found.region)
    assert run(region, found.arguments, found.sizes) == run(found.region, found.arguments, found.sizes)


def test_what_is_needed_on_both_sides_stays():
    def body(g: Builder, x: Value) -> Value:
        s = g.sqrt(x)
        return choose(g, positive(g, x), lambda b: b.mul(s, x), lambda b: b.add(s, x))

    region = build([NUMBER], body)
    assert sink(region) is region


def test_an_array_is_not_computed_anew_at_every_point():
    """Only numbers go through loops and spaces."""

    def body(g: Builder, x: Value) -> Value:
        s = g.reduce_sum(g.sqrt(x), axes=(0,))

        def point(h: Builder, i: Value) -> Value:
            v = h.index(x, i)
            return choose(h, positive(h, v), lambda b: b.mul(s, v), lambda _b: v)

        return total(g, g.map([N], point))

    region = build([array(F64, N)], body)
    outer = [node.op.name for node in sink(region).nodes]
    assert "reduce_sum" in outer


def test_a_read_that_may_fault_is_not_left_out():
    def body(g: Builder, x: Value) -> Value:
        v = g.index(x, whole(g, 0))
        return choose(g, positive(g, v), lambda b: b.sqrt(v), lambda b: real(b, 0.0))

    region = sink(build([array(F64, size(3))], body))
    assert "index" in [node.op.name for node in region.nodes]
    assert [node.op.name for node in walk(region)].count("index") == 1
