"""Random nests of every region op: value, differences, jvp against vjp, reverse over reverse, third order."""

import numpy as np
import pytest
from ad_check import (
    Example,
    build,
    central,
    directions,
    error,
    forward_over_reverse,
    gradient,
    real,
    reverse_over_reverse,
    run,
    whole,
)

from dgraph.ad import jvp
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import size, variable
from dgraph.types import F64, Accumulator, Array, array

N = variable("n")
ENTRIES = 5


class Nest:
    """Writes random blocks; every choice comes from one generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, values: list[Value]) -> Value:
        return values[self.rng.integers(len(values))]

    def place(self, g: Builder, integers: list[Value]) -> Value:
        shifted = g.add(self.pick(integers), whole(g, int(self.rng.integers(ENTRIES))))
        return g.mod(shifted, whole(g, ENTRIES))

    def block(self, g: Builder, scalars: list[Value], integers: list[Value], arrays: list[Value], depth: int) -> Value:
        """A few statements over the values in reach; returns one scalar."""
        scalars, arrays = list(scalars), list(arrays)
        kinds = ["op", "read"]
        if depth:
            kinds += ["if", "for", "while", "sum", "buffer", "update", "walk", "call", "collect", "whole"]
        for _ in range(self.rng.integers(2, 4)):
            kind = str(self.rng.choice(kinds))
            value, array_ = getattr(self, kind)(g, scalars, integers, arrays, depth - 1)
            scalars.append(value)
            if array_ is not None:
                arrays.append(array_)
        return g.sin(g.add(g.mul(scalars[-1], self.pick(scalars)), scalars[-2]))

    def op(self, g, scalars, integers, arrays, depth):
        name = str(self.rng.choice(["sin", "mul", "add", "tanh", "sub"]))
        operands = [self.pick(scalars) for _ in range(1 if name in ("sin", "tanh") else 2)]
        return g.sin(getattr(g, name)(*operands)), None

    def read(self, g, scalars, integers, arrays, depth):
        return g.index(self.pick(arrays), self.place(g, integers)), None

    def call(self, g, scalars, integers, arrays, depth):
        f = Builder()
        groups = [[f.input(value.type) for value in values] for values in (scalars, integers, arrays)]
        region = f.close([self.block(f, *groups, depth)])
        return g.call("f", [*scalars, *integers, *arrays], region)[0], None

    # "if" is not a name, so the methods of the other kinds are reached through __getattr__ below.
    def choice(self, g, scalars, integers, arrays, depth):
        def side(h):
            return [self.block(h, scalars, integers, arrays, depth)]

        return g.if_(g.less(self.pick(scalars), self.pick(scalars)), side, side)[0], None

    def counted(self, g, scalars, integers, arrays, depth):
        def body(h, i, carried, _walked):
            c, j = carried
            out = self.block(h, [*scalars, c], [*integers, i, j], arrays, depth)
            after = h.mod(h.add(h.mul(j, whole(h, 2)), whole(h, 1)), whole(h, 7))
            return [h.add(h.mul(c, real(h, 0.5)), out), after]

        count = whole(g, int(self.rng.integers(0, 4)))
        start = [self.pick(scalars), self.pick(integers)]
        return g.for_(count, start, body, reverse=bool(self.rng.integers(2)))[0], None

    def uncounted(self, g, scalars, integers, arrays, depth):
        limit = g.mul(real(g, 4.0), g.abs(self.pick(scalars)))

        def small(h, carried):
            return h.less(h.cast(carried[1], dtype=F64), limit)

        def body(h, carried):
            c, j = carried
            out = self.block(h, [*scalars, c], [*integers, j], arrays, depth)
            return [h.add(h.mul(c, real(h, 0.5)), out), h.add(j, whole(h, 1))]

        return g.while_([self.pick(scalars), whole(g, 0)], small, body)[0], None

    def sum(self, g, scalars, integers, arrays, depth):
        def point(h, i):
            return self.block(h, scalars, [*integers, i], arrays, depth)

        return g.mul(real(g, 0.3), g.sum_over([size(3)], F64, point)), None

    def buffer(self, g, scalars, integers, arrays, depth):
        def point(h, indices, _threads, own):
            i, j = indices

            def write(q):
                at = q.mod(q.mul(i, whole(q, 3)), whole(q, ENTRIES))
                return [q.accumulate(own[0], at, self.block(q, scalars, [*integers, i], arrays, depth))]

            return h.if_(h.less_equal(j, i), write, lambda _q: [own[0]])

        (y,) = g.space([size(3), size(2)], point, buffers=[Accumulator(F64, (N,))])
        return g.index(y, self.place(g, integers)), g.sin(y)

    def update(self, g, scalars, integers, arrays, depth):
        def body(h, i, carried, _walked):
            (z,) = carried
            out = self.block(h, [*scalars, h.index(z, i)], [*integers, i], [*arrays, z], depth)
            return [h.set_at(z, h.add(i, whole(h, 1)), out)]

        (z,) = g.for_(whole(g, 3), [self.pick(arrays)], body)
        return g.index(z, self.place(g, integers)), z

    def walk(self, g, scalars, integers, arrays, depth):
        """Entries of an array handed over step by step, an accumulator carried, results stacked."""
        walked_array = self.pick(arrays)

        def body(h, i, carried, walked):
            c, written = carried
            out = self.block(h, [*scalars, c, walked[0]], [*integers, i], arrays, depth)
            written = h.accumulate(written, self.place(h, [*integers, i]), h.mul(c, out))
            return [h.sin(h.add(c, out)), written, h.mul(out, walked[0])]

        start = [self.pick(scalars), g.zeros(Accumulator(F64, (N,)))]
        c, written, stacked = g.for_(g.number(N), start, body, walks=[walked_array], length=N)
        return c, g.add(g.freeze(written), stacked)

    def collect(self, g, scalars, integers, arrays, depth):
        """An array with one entry per point, read as a whole by an array op."""
        y = g.map([N], lambda h, i: self.block(h, scalars, [*integers, i], arrays, depth))
        return g.reduce_sum(g.mul(y, self.pick(arrays)), axes=(0,)), g.tanh(y)

    def whole(self, g, scalars, integers, arrays, depth):
        """Ops on arrays as a whole."""
        x, y = self.pick(arrays), self.pick(arrays)
        spread = g.broadcast(self.pick(scalars), shape=(N,))
        made = [
            lambda: g.sin(g.mul(x, spread)),
            lambda: g.cumsum(g.tanh(g.add(x, y)), axis=0),
            lambda: g.slice(g.concat(x, y, axis=0), starts=(N - 1,), steps=(1,), shape=(N,)),
            lambda: g.slice(x, starts=(N - 1,), steps=(-1,), shape=(N,)),
            lambda: g.dot(
                g.mul(g.broadcast(x, shape=(N, N)), g.broadcast(g.reshape(y, shape=(N, size(1))), shape=(N, N))), spread
            ),
            lambda: g.maximum(x, g.sub(y, spread)),
        ][self.rng.integers(6)]()
        value = [
            lambda: g.logsumexp(made, axes=(0,)),
            lambda: g.reduce_max(g.sin(made), axes=(0,)),
            lambda: g.dot(g.tanh(made), y),
            lambda: g.reduce_prod(g.tanh(made), axes=(0,)),
        ][self.rng.integers(4)]()
        return g.sin(value), g.tanh(made)

    def __getattr__(self, name: str):
        return {"if": self.choice, "for": self.counted, "while": self.uncounted}[name]


def program(seed: int, depth: int) -> Example:
    nest = Nest(seed)

    def body(g: Builder, a: Value, x: Value) -> Value:
        return nest.block(g, [a, g.sin(a)], [whole(g, 1), whole(g, 3)], [x], depth)

    rng = np.random.default_rng(seed + 1)
    arguments = rng.standard_normal(), rng.standard_normal(ENTRIES)
    return Example(build([Array(F64), array(F64, N)], body), arguments, (0, 1), (("n", ENTRIES),))


def check(example: Example) -> None:
    arguments, sizes = list(example.arguments), example.sizes
    along = directions(example)
    reverse = gradient(example)
    value, *found = run(reverse, [*arguments, 1.0], sizes)
    assert value == run(example.region, arguments, sizes)[0]
    forward = run(jvp(example.region, example.flags), [*arguments, *along], sizes)[1]
    product = sum(np.sum(a * b) for a, b in zip(found, along, strict=True))
    assert error([forward], [product]) < 1e-12
    assert error([forward], central(example, example.region, along, 1e-6)) < 1e-6
    over = run(forward_over_reverse(example, reverse), [*arguments, 1.0, *along], sizes)[-2:]
    twice = run(reverse_over_reverse(example, reverse), [*arguments, 1.0, *along], sizes)[-2:]
    assert error(twice, over) < 1e-12


@pytest.mark.parametrize("seed", range(60))
def test_shallow(seed: int):
    check(program(seed, 1))


@pytest.mark.parametrize("seed", range(10))
def test_deep(seed: int):
    check(program(seed, 2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_many_shallow(seed: int):
    check(program(seed, 1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_many_deep(seed: int):
    check(program(seed, 2))
