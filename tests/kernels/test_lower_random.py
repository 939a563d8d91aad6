"""Random graphs of nested loops, choices, index spaces, tapes, updates and accumulators against the interpreter."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001, ARG005

import random

import numpy as np
import pytest
from nest_emulator import emulate
from nest_graphs import M, N, arguments_for, compare, evaluate, make_graph

from dgraph.kernels.compile import compile_graph
from dgraph.types import F64, I64, Accumulator, Array

SHAPES = [(), (), (N,), (M,), (N, M)]


class Writer:
    """Writes random nodes into a builder, from values in scope."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, scope, shape):
        found = [value for value in scope if value.type == Array(F64, shape)]
        return self.random.choice(found) if found else None

    def value(self, g, scope, shape):
        return self.pick(scope, shape) or g.full(self.random.choice([0.5, -1.25, 2.0]), Array(F64, shape))

    def shape(self):
        return self.random.choice(SHAPES)

    def body(self, g, scope, depth, steps):
        """Append some nodes; the values made are added to a copy of the scope, which is returned."""
        scope = list(scope)
        for _ in range(steps):
            kinds = ["scalar", "entries", "entries", "view", "read", "reduce", "set"]
            if depth > 0:
                kinds += ["for", "for", "while", "if", "if", "space", "space", "taped"]
            scope.extend(getattr(self, self.random.choice(kinds))(g, scope, depth - 1))
        return scope

    def scalar(self, g, scope, depth):
        x, y = self.value(g, scope, ()), self.value(g, scope, ())
        op = self.random.choice(["add", "sub", "mul", "maximum"])
        return [g.sin(getattr(g, op)(x, y))]

    def entries(self, g, scope, depth):
        shape = self.shape()
        x, y = self.value(g, scope, shape), self.value(g, scope, shape)
        return [g.sin(getattr(g, self.random.choice(["add", "mul", "minimum"]))(x, y))]

    def view(self, g, scope, depth):
        x = self.value(g, scope, (N, M))
        kind = self.random.randrange(4)
        if kind == 0:
            turned = g.transpose(x, axes=(1, 0))
            return [g.transpose(g.add(turned, turned), axes=(1, 0)), g.index(turned, g.number(0), policy="clip")]
        if kind == 1:
            return [g.slice(x, starts=(N - 1, M - 1), steps=(-1, -1), shape=(N, M))]
        if kind == 2:
            return [g.broadcast(self.value(g, scope, (M,)), shape=(N, M))]
        flat = g.reshape(x, shape=(N * M,))
        return [g.reshape(g.sin(flat), shape=(N, M)), g.index(flat, g.number(3), policy="drop")]

    def read(self, g, scope, depth):
        place = g.number(self.random.choice([0, 1, 2]))
        policy = self.random.choice(["clip", "drop"])
        return [
            g.index(self.value(g, scope, (N, M)), place, policy=policy),
            g.index(self.value(g, scope, (N,)), place, policy=policy),
        ]

    def reduce(self, g, scope, depth):
        x = self.value(g, scope, (N, M))
        return [g.reduce_sum(x, axes=(self.random.randrange(2),)), g.sin(g.reduce_max(x, axes=(0, 1)))]

    def set(self, g, scope, depth):
        place, policy = g.number(self.random.choice([0, 1])), self.random.choice(["clip", "drop"])
        if policy == "clip":
            policy = "drop"
        if self.random.random() < 0.5:
            return [g.set_at(self.value(g, scope, (N,)), place, self.value(g, scope, ()), policy=policy)]
        return [g.set_at(self.value(g, scope, (N, M)), place, self.value(g, scope, (M,)), policy=policy)]

    def carried(self, g, scope):
        return [self.value(g, scope, self.shape()) for _ in range(self.random.randint(1, 3))]

    def nexts(self, h, inner, scope, carries):
        return [
            self.value(h, [*inner[-6:], *scope] if self.random.random() < 0.8 else scope, v.type.shape) for v in carries
        ]

    def count(self, g):
        return self.random.choice([g.number(N), g.number(3), g.number(0), g.number(M - 1)])

    def for_(self, g, scope, depth, taped):
        carries = self.carried(g, scope)
        is_walking = self.random.random() < 0.5
        walks = [self.value(g, scope, (N, M)), self.value(g, scope, (N,))] if is_walking else []
        count = g.number(N) if is_walking else self.count(g)
        tapes = []

        def step(h, i, carried, walked):
            mine = [*carried, *walked, h.cast(i, dtype=F64)]
            seen = self.body(h, [*scope, *mine], depth, 2)
            made = seen[len(scope) :]
            new = self.nexts(h, made, [*mine, *scope], carries)
            if self.random.random() < 0.4:
                k = next((k for k, v in enumerate(carries) if v.type.shape == (N,)), None)
                if k is not None:
                    new[k] = h.set_at(carried[k], i, self.value(h, made, ()), policy="drop")
            tapes.extend(self.value(h, made, self.shape()) for _ in range(2 if taped else 0))
            return [*new, *tapes]

        reverse = self.random.random() < 0.3
        results = g.for_(count, carries, step, walks=walks, tapes=2 if taped else 0, reverse=reverse)
        return count, carries, results

    def taped(self, g, scope, depth):
        count, _carries, results = self.for_(g, scope, depth, True)
        *last, one, other = results
        again = self.carried(g, [*scope, *last])

        def back(h, i, carried, walked):
            seen = self.body(h, [*scope, *carried, *walked], depth - 1, 2)
            return self.nexts(h, [*walked, *seen[len(scope) :]], [*carried, *scope], again)

        return [*last, *g.for_(count, again, back, walks=[one, other], reverse=self.random.random() < 0.7)]

    def stacked(self, g, scope, depth):
        def step(h, i, carried, walked):
            seen = self.body(h, [*scope, *carried], depth, 2)
            return [self.value(h, seen, ()), self.value(h, seen, (M,)), self.value(h, seen, ())]

        return g.for_(g.number(N), [self.value(g, scope, ())], step, length=N)

    def while_loop(self, g, scope, depth):
        carries = [g.constant(0, I64), *self.carried(g, scope)]
        limit = self.random.choice([0, 2, 4])

        def body(h, carried):
            mine = carried[1:]
            seen = self.body(h, [*scope, *mine], depth, 2)
            made = seen[len(scope) :]
            tape = self.value(h, made, self.shape())
            return [h.add(carried[0], h.number(1)), *self.nexts(h, made, [*mine, *scope], carries[1:]), tape]

        _, *last, tape, trips = g.while_(carries, lambda h, c: h.less(c[0], h.number(limit)), body, tapes=1)
        again = self.carried(g, [*scope, *last])
        back = g.for_(
            trips, again, lambda h, i, c, w: self.nexts(h, [*w], [*c, *scope], again), walks=[tape], reverse=True
        )
        return [*last, *back]

    def choice(self, g, scope, depth):
        shapes = [self.shape() for _ in range(self.random.randint(1, 3))]

        def side(h):
            seen = self.body(h, scope, depth, 2)
            return [self.value(h, seen[-4:] if self.random.random() < 0.6 else scope, shape) for shape in shapes]

        limit = g.constant(self.random.choice([-0.5, 0.0, 0.5]), F64)
        return g.if_(g.less(self.value(g, scope, ()), limit), side, side)

    def space(self, g, scope, depth):
        extents = self.random.choice([(N,), (M,), (N, M), ()])
        own = [Accumulator(F64, self.shape()) for _ in range(self.random.randint(0, 2))]
        inner = self.random.choice([(), (M,)]) if len(extents) < 2 else ()

        def point(h, indices, threaded, buffers):
            seen = self.body(h, [*scope, *(h.cast(i, dtype=F64) for i in indices)], min(depth, 1), 2)
            made = seen[len(scope) :]
            new = []
            for buffer in buffers:
                rank = len(buffer.type.shape)
                if rank and self.random.random() < 0.7:
                    entry = self.value(h, made, buffer.type.shape[1:])
                    place = indices[0] if indices else h.number(0)
                    new.append(h.accumulate(buffer, place, entry, policy="drop"))
                else:
                    new.append(h.accumulate(buffer, self.value(h, made, buffer.type.shape)))
            return [*new, self.value(h, made, ()), self.value(h, made, inner)]

        found = g.space(extents, point, buffers=own)
        return [value for value in found if value.type.shape in SHAPES]


setattr(Writer, "for", lambda self, g, scope, depth: self.for_(g, scope, depth, False)[2])
setattr(Writer, "while", Writer.while_loop)
setattr(Writer, "if", Writer.choice)


def random_graph(seed):
    """A graph of scalars, vectors and a matrix."""
    writer = Writer(seed)

    def build(g, *values):
        seen = writer.body(g, values, 2, 5)
        made = [value for value in seen[-4:] if isinstance(value.type, Array)]
        return [*made, seen[0]]

    inputs = [("a", Array(F64)), ("u", Array(F64, (N,))), ("v", Array(F64, (M,))), ("x", Array(F64, (N, M)))]
    return make_graph(inputs, build)


@pytest.mark.parametrize("seed", range(60))
def test_random_graph_as_python(seed):
    graph = random_graph(seed)
    for sizes in ({"n": 3, "m": 2}, {"n": 1, "m": 3}):
        leaves = arguments_for(graph, sizes, seed)
        with np.errstate(all="ignore"):
            compare(emulate(graph, leaves), evaluate(graph, leaves), ulp=1e4)


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_random_graph_as_machine_code(seed):
    graph = random_graph(seed)
    machine = compile_graph(graph)
    for sizes in ({"n": 3, "m": 2}, {"n": 1, "m": 3}, {"n": 7, "m": 5}, {"n": 3, "m": 2}):
        leaves = arguments_for(graph, sizes, seed)
        compare(machine.call(leaves), evaluate(graph, leaves), ulp=1e5)
