"""Programs that together use everything a graph can say, with arguments at smooth points."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ad_check import Example, build, real, whole

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import size, variable
from dgraph.types import F64, I64, Accumulator, Array, array

EXAMPLES: dict[str, Example] = {}
NUMBER = Array(F64)
RNG = np.random.default_rng(1)
N = variable("n")


def example(
    types: Sequence[Array], *arguments: Any, wrt: tuple[int, ...] = (0,), **sizes: int
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    def register(body: Callable[..., Value]) -> Callable[..., Value]:
        EXAMPLES[body.__name__] = Example(build(types, body), arguments, wrt, tuple(sizes.items()))
        return body

    return register


def total(h: Builder, x: Value) -> Value:
    """The sum of a vector."""
    assert isinstance(x.type, Array)
    return h.sum_over(x.type.shape, F64, lambda p, *at: p.index(x, *at))


def loop(h: Builder, count: int, start: Sequence[Value], body: Callable[..., Sequence[Value]], **facts: Any) -> Any:
    return h.for_(whole(h, count), start, body, length=size(count), **facts)


def newton_root(h: Builder, a: Value) -> Value:
    """The square root of a by Newton's method from 1."""

    def far(p: Builder, carried: list[Value]) -> Value:
        (x,) = carried
        return p.less(real(p, 1e-13), p.abs(p.sub(p.mul(x, x), a)))

    def step(p: Builder, carried: list[Value]) -> list[Value]:
        (x,) = carried
        return [p.mul(real(p, 0.5), p.add(x, p.div(a, x)))]

    root, _trips = h.while_([real(h, 1.0)], far, step)
    return root


def position_of_largest(h: Builder, v: Value, count: int) -> Value:
    def body(p: Builder, i: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
        best, at = carried
        entry = p.stop_gradient(p.index(v, i))
        larger = p.less(best, entry)
        return [p.select(larger, entry, best), p.select(larger, i, at)]

    return loop(h, count, [real(h, -np.inf), whole(h, -1)], body)[1]


def log_sum_exp(h: Builder, v: Value, count: int) -> Value:
    largest = h.stop_gradient(h.index(v, position_of_largest(h, v, count)))
    terms = h.sum_over([size(count)], F64, lambda p, i: p.exp(p.sub(p.index(v, i), largest)))
    return h.add(largest, h.log(terms))


@example([array(F64, N)], RNG.standard_normal(4), n=4)
def smooth(g, x):
    return total(g, g.mul(g.sin(x), g.exp(x)))


def strided_convolution(g: Builder, x: Value, w: Value) -> Value:
    """y[i] = sum of x[2 i + p - 1] w[p] inside the bounds, for 9 entries and 3 weights."""

    def point(h: Builder, indices: list[Value], _threads: list[Value], own: list[Value]) -> Sequence[Value]:
        i, p = indices
        at = h.sub(h.add(h.mul(i, whole(h, 2)), p), whole(h, 1))
        inside = h.logical_and(h.less_equal(whole(h, 0), at), h.less(at, whole(h, 9)))
        return h.if_(
            inside,
            lambda b: [b.accumulate(own[0], i, b.mul(b.index(x, at), b.index(w, p)))],
            lambda _b: [own[0]],
        )

    (y,) = g.space([size(5), size(3)], point, buffers=[Accumulator(F64, (size(5),))])
    return y


@example([array(F64, 9), array(F64, 3)], RNG.standard_normal(9), RNG.standard_normal(3), wrt=(0, 1))
def convolution(g, x, w):
    y = strided_convolution(g, x, w)
    return total(g, g.mul(g.tanh(y), y))


@example(
    [array(F64, 5, 3), array(F64, 2, 3), array(F64, 2, 6)],
    RNG.standard_normal((5, 3)),
    RNG.standard_normal((2, 3)),
    RNG.standard_normal((2, 6)) * 0.3,
    wrt=(0, 1, 2),
)
def mixture(g, x, mu, low):
    """Sum over points of logsumexp over components of -|L (x - mu)|^2, L packed lower triangular."""

    def point(h, i):
        def component(c, k):
            def row(r_, r):
                def column(s_, indices, _threads, own):
                    (s,) = indices

                    def inside(q):
                        d = q.sub(q.index(x, i, s), q.index(mu, k, s))
                        triangle = q.floor_divide(q.mul(r, q.add(r, whole(q, 1))), whole(q, 2))
                        return [q.accumulate(own[0], q.mul(q.index(low, k, q.add(triangle, s)), d))]

                    return s_.if_(s_.less_equal(s, r), inside, lambda _q: [own[0]])

                (t,) = r_.space([size(3)], column, buffers=[Accumulator(F64)])
                return r_.mul(t, t)

            return c.neg(c.sum_over([size(3)], F64, row))

        return log_sum_exp(h, h.map([size(2)], component), 2)

    return total(g, g.map([size(5)], point))


@example([array(F64, 7)], RNG.standard_normal(7))
def max_routing(g, x):
    y = g.mul(x, g.sin(x))
    z = g.index(y, position_of_largest(g, y, 7))
    return g.add(g.mul(z, z), log_sum_exp(g, y, 7))


@example([NUMBER, array(F64, 4)], 0.7, RNG.standard_normal(4), wrt=(0, 1))
def loop_updates(g, a, u):
    """A carry, element updates z[i + 1] = ..., collected outputs."""
    z = g.set_at(g.zeros(array(F64, 5)), whole(g, 0), a)

    def body(h, i, carried, _walked):
        c, z = carried
        p = h.index(z, i)
        q = h.add(h.mul(h.sin(p), h.index(u, i)), c)
        z = h.set_at(z, h.add(i, whole(h, 1)), q)
        c = h.mul(a, h.add(c, h.mul(p, p)))
        return [c, z, h.mul(c, q)]

    c, z, ys = loop(g, 4, [real(g, 0.3), z], body)
    return g.add(g.add(total(g, g.mul(z, z)), c), total(g, g.mul(ys, g.sin(ys))))


@example([array(F64, 3), array(I64, 5)], np.array([0.2, 0.5, 0.9]), np.array([0, 2, 1, 2, 2]))
def histogram(g, x, labels):
    """An accumulator threaded through a sequential loop and read at the end."""

    def body(h, i, carried, _walked):
        (count,) = carried
        label = h.index(labels, i)
        return [h.accumulate(count, label, h.exp(h.index(x, label)))]

    (count,) = loop(g, 5, [g.zeros(Accumulator(F64, (size(3),)))], body)
    count = g.freeze(count)
    return total(g, g.mul(count, g.mul(count, x)))


@example([NUMBER], 2.3)
def newton(g, a):
    root = newton_root(g, a)
    return g.mul(root, g.sin(a))


@example([array(F64, N)], np.array([1.5, 4.0, 2.5, 30.0]), n=4)
def space_of_while(g, a):
    y = g.map([N], lambda h, i: newton_root(h, h.index(a, i)))
    return total(g, g.mul(y, g.mul(y, y)))


@example([array(F64, N), array(F64, N, N)], RNG.standard_normal(5), RNG.standard_normal((5, 5)) * 0.4, wrt=(0, 1), n=5)
def for_of_space(g, x, w):
    def body(_h, _t, carried, _walked):
        (x,) = carried

        def point(p, i):
            return p.tanh(p.sum_over([N], F64, lambda q, j: q.mul(q.index(w, i, j), q.index(x, j))))

        return [_h.map([N], point)]

    (x,) = loop(g, 3, [x], body)
    return total(g, g.mul(x, x))


@example([array(F64, 3)], RNG.uniform(1, 9, 3))
def for_of_while(g, a):
    """Inner trip counts differ per outer step: ragged tapes."""

    def body(h, i, carried, _walked):
        (c,) = carried
        v = h.add(h.index(a, i), h.mul(c, c))
        return [h.add(newton_root(h, v), h.mul(real(h, 0.1), c))]

    (c,) = loop(g, 3, [real(g, 0.5)], body)
    return g.mul(c, c)


@example([NUMBER], 0.8)
def while_of_for(g, a):
    """A counted loop inside a loop of unknown length: a tape of tapes."""

    def small(h, carried):
        return h.less(carried[0], real(h, 5.0))

    def body(h, carried):
        (c,) = carried

        def inner(p, i, inside, _walked):
            (d,) = inside
            return [p.add(p.mul(d, p.sin(a)), p.cast(i, dtype=F64))]

        (d,) = loop(h, 3, [c], inner)
        return [h.add(c, h.mul(d, d))]

    c, _trips = g.while_([a], small, body)
    return g.sin(c)


@example([array(F64, 6)], RNG.standard_normal(6))
def if_in_for(g, x):
    def body(h, i, carried, _walked):
        (c,) = carried
        v = h.index(x, i)
        return h.if_(
            h.less(real(h, 0.0), v),
            lambda b: [b.mul(b.sin(c), newton_root(b, b.add(real(b, 2.0), b.mul(v, c))))],
            lambda b: [b.add(c, b.mul(v, b.index(x, whole(b, 0))))],
        )

    (c,) = loop(g, 6, [real(g, 0.4)], body)
    return c


@example([array(F64, N)], np.array([-0.3, 1.0, 4.0, -2.0]), n=4)
def guarded_root_per_point(g, x):
    """sqrt and log are bound before the choice and used on one side only."""

    def point(h, i):
        v = h.index(x, i)
        s = h.sqrt(v)
        t = h.mul(h.log(s), s)
        (y,) = h.if_(h.less(real(h, 0.0), v), lambda b: [b.add(t, b.mul(v, s))], lambda b: [b.mul(v, real(b, 3.0))])
        return y

    y = g.map([N], point)
    return total(g, g.mul(y, y))


@example([NUMBER], -0.4)
def guarded_root(g, x):
    s = g.sqrt(x)
    t = g.mul(g.log(s), s)
    (y,) = g.if_(
        g.less(real(g, 0.0), x),
        lambda b: [b.add(t, b.mul(x, s))],
        lambda b: [b.mul(b.mul(x, x), real(b, 3.0))],
    )
    return g.add(y, x)


@example([NUMBER, NUMBER], 0.3, 1.2, wrt=(0, 1))
def calls(g, x, y):
    f = Builder()
    a, b = f.input(NUMBER), f.input(NUMBER)
    region = f.close([f.mul(f.sin(a), b), f.mul(a, a)])
    p, q = g.call("f", [x, y], region)
    r, s = g.call("f", [q, p], region)
    return g.add(r, g.mul(s, p))


@example([array(F64, 3)], np.array([0.3, -0.2, 0.6]))
def zero_trips(g, x):
    def shrink(h, _i, carried, _walked):
        return [h.mul(carried[0], h.index(x, whole(h, 1)))]

    (c,) = loop(g, 0, [g.index(x, whole(g, 0))], shrink)
    d, _trips = g.while_(
        [g.index(x, whole(g, 2))],
        lambda h, carried: h.less(real(h, 9.0), carried[0]),
        lambda h, carried: [h.mul(carried[0], h.index(x, whole(h, 1)))],
    )
    return g.mul(g.sin(c), d)


@example(
    [array(F64, N, 3), array(F64, 3, 3)], RNG.standard_normal((4, 3)), RNG.standard_normal((3, 3)), wrt=(0, 1), n=4
)
def recurrent_network(g, x, w):
    """A loop over the rows of an array, walked, with array ops in the body and collected states."""

    def body(h, _t, carried, walked):
        (state,) = carried
        state = h.tanh(h.add(h.dot(w, state), walked[0]))
        return [state, h.mul(state, state)]

    state, collected = g.for_(g.number(N), [g.zeros(array(F64, 3))], body, walks=[x], length=N)
    return g.add(total(g, state), total(g, collected))


@example([NUMBER, array(F64, 4)], 0.9, RNG.standard_normal(4), wrt=(0, 1))
def reversed_loop(g, a, u):
    """A loop that runs from its last step to the first, and hands an array over at each."""

    def body(h, i, carried, _walked):
        c, z = carried
        z = h.mul(z, h.broadcast(h.cos(c), shape=(size(4),)))
        return [h.add(h.mul(a, h.sin(c)), h.index(u, i)), z]

    c, z = loop(g, 4, [a, u], body, reverse=True)
    return g.add(g.mul(c, c), total(g, z))
