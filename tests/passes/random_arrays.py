"""Random programs over arrays, with arguments: what the passes must not change."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import dgraph.ops  # noqa: F401
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph, Value
from dgraph.sizes import size, variable
from dgraph.types import F64, Accumulator, Array, Tuple

N, M = variable("n"), variable("m")
SIZES = {"n": 3, "m": 4}
SHAPES = [(), (N,), (M,), (N, M), (M, N)]


def graph_of(inputs: Sequence[tuple[str, Array]], build: Any) -> Graph:
    """The graph of `build(g, *inputs)`, a function that returns the outputs."""
    g = Builder()
    outputs = build(g, *(g.input(type_, name) for name, type_ in inputs))
    region = g.close(outputs)
    atoms = {atom for _, type_ in inputs for extent in type_.shape for atom in extent.atoms()}
    formals = tuple(Formal(name, type_) for name, type_ in inputs)
    types = tuple(value.type for value in outputs)
    return Graph("f", tuple(sorted(map(str, atoms))), formals, types[0] if len(types) == 1 else Tuple(types), region)


def arguments_of(graph: Graph, seed: int = 0) -> list[Any]:
    """Arguments for a graph over the sizes n and m."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(extent.evaluate(SIZES.__getitem__) for extent in v.type.shape) for v in graph.region.inputs]
    return [rng.normal(size=shape) for shape in shapes]


class Program:
    """Writes a random program; every choice comes from one generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def graph(self, steps: int) -> Graph:
        """A graph of so many statements."""
        inputs = [("a", Array(F64, (N, M))), ("b", Array(F64, (M,))), ("c", Array(F64, (N,))), ("s", Array(F64))]

        def build(g: Builder, *values: Value) -> list[Value]:
            known = list(values)
            for _ in range(steps):
                known.append(self.statement(g, known))
            return [*(self.pick(known) for _ in range(2)), known[-1]]

        return graph_of(inputs, build)

    def pick(self, values: list[Value], shape: Any = None) -> Value:
        fitting = [value for value in values if shape is None or value.type.shape == shape]
        # Later values are likelier, so that chains grow.
        return fitting[int(len(fitting) * self.rng.uniform() ** 0.5)]

    def statement(self, g: Builder, known: list[Value]) -> Value:
        kinds = [
            "unary",
            "binary",
            "binary",
            "view",
            "reduce",
            "formula",
            "dot",
            "row_sum",
            "choice",
            "loop",
            "rows",
            "steps",
        ]
        return getattr(self, str(self.rng.choice(kinds)))(g, known)

    def unary(self, g: Builder, known: list[Value]) -> Value:
        return getattr(g, str(self.rng.choice(["tanh", "neg", "sin", "relu", "abs"])))(self.pick(known))

    def binary(self, g: Builder, known: list[Value]) -> Value:
        left = self.pick(known)
        right = self.fitted(g, known, left.type.shape)
        return getattr(g, str(self.rng.choice(["add", "mul", "sub", "maximum"])))(left, right)

    def fitted(self, g: Builder, known: list[Value], shape: Any) -> Value:
        """A value of a shape, by a broadcast where it has to be."""
        choices = [value for value in known if value.type.shape == shape]
        choices += [value for value in known if value.type.shape == shape[1:] or value.type.shape == ()]
        return g.widen(self.pick(choices), shape)

    def view(self, g: Builder, known: list[Value]) -> Value:
        x = self.pick(known)
        shape = x.type.shape
        if len(shape) == 2:
            return g.transpose(x)
        if len(shape) == 1:
            return g.slice(x, starts=(shape[0] - 1,), steps=(-1,), shape=shape)
        return g.widen(x, SHAPES[self.rng.integers(1, len(SHAPES))])

    def reduce(self, g: Builder, known: list[Value]) -> Value:
        x = self.pick(known)
        if not x.type.shape:
            return g.sin(x)
        op = str(self.rng.choice(["reduce_sum", "reduce_max", "logsumexp"]))
        return getattr(g, op)(x, axes=(int(self.rng.integers(x.type.rank)),))

    def dot(self, g: Builder, known: list[Value]) -> Value:
        a = self.pick(known, (N, M))
        return g.dot(a, self.pick([v for v in known if v.type.shape in ((M, N), (M,))] or [known[1]]))

    def formula(self, g: Builder, known: list[Value]) -> Value:
        """An index space that reads rows, columns and neighbours."""
        x, y = self.pick(known), self.pick(known)
        shape = SHAPES[self.rng.integers(1, len(SHAPES))]

        def read(h: Builder, array: Value, at: Sequence[Value]) -> Value:
            indices = []
            for extent in array.type.shape:
                index = at[self.rng.integers(len(at))]
                last = h.sub(h.number(extent), h.number(1))
                indices.append(h.minimum(index, last))
            return h.index(array, *indices, policy="proven") if indices else array

        return g.map(shape, lambda h, *at: h.add(h.sin(read(h, x, at)), h.mul(read(h, y, at), read(h, x, at))))

    def row_sum(self, g: Builder, known: list[Value]) -> Value:
        """Sums of products in a point, and an accumulation into a buffer of the space."""
        x, y = self.pick(known, (N, M)), self.pick(known, (M,))

        def point(h: Builder, indices: list[Value], _a: list[Value], own: list[Value]) -> list[Value]:
            (i,) = indices

            def term(q: Builder, j: Value) -> Value:
                return q.mul(q.index(x, i, j, policy="proven"), q.index(y, j, policy="proven"))

            total = h.sum_over((M,), F64, term)
            return [h.accumulate(own[0], i, total, policy="proven"), h.tanh(total)]

        left, right = g.space((N,), point, buffers=[Accumulator(F64, (N,))])
        return g.mul(left, right)

    def choice(self, g: Builder, known: list[Value]) -> Value:
        x = self.pick(known)
        other = self.fitted(g, known, x.type.shape)
        late = g.exp(other)
        (found,) = g.if_(
            g.less(known[3], g.constant(0.3, F64)), lambda h: [h.mul(x, late)], lambda h: [h.sub(h.tanh(x), other)]
        )
        return found

    def loop(self, g: Builder, known: list[Value]) -> Value:
        x = self.pick(known)
        other = self.fitted(g, known, x.type.shape)

        def body(h: Builder, _i: Value, carried: list[Value], _w: list[Value]) -> list[Value]:
            return [h.tanh(h.add(h.mul(carried[0], h.sin(other)), x))]

        return g.for_(g.number(size(2)), [x], body)[0]

    def rows(self, g: Builder, known: list[Value]) -> Value:
        """A function applied to every row, as vmap writes it; with an outer product gathered over the rows."""
        x, w = self.pick(known, (N, M)), g.transpose(self.pick(known, (N, M)))

        def point(h: Builder, indices: list[Value], _a: list[Value], own: list[Value]) -> list[Value]:
            row = h.sin(h.index(x, *indices, policy="proven"))
            made = h.tanh(h.dot(row, w))
            left = h.broadcast(h.reshape(row, shape=(M, size(1))), shape=(M, N))
            outer = h.mul(left, h.broadcast(made, shape=(M, N)))
            return [h.accumulate(own[0], outer), h.add(made, h.dot(w, row, transpose_a=True))]

        gathered, yielded = g.space((N,), point, buffers=[Accumulator(F64, (M, N))])
        return g.dot(yielded, g.transpose(gathered))

    def steps(self, g: Builder, known: list[Value]) -> Value:
        """A loop over rows with weights, and the gathering of their gradient."""
        x, w = self.pick(known, (N, M)), g.transpose(self.pick(known, (N, M)))
        start = [self.fitted(g, known, (N,)), g.zeros(Accumulator(F64, (M, N)))]

        def body(h: Builder, _i: Value, carried: list[Value], walked: list[Value]) -> list[Value]:
            state = h.tanh(h.add(h.dot(walked[0], w), carried[0]))
            left = h.broadcast(h.reshape(walked[0], shape=(M, size(1))), shape=(M, N))
            outer = h.mul(left, h.broadcast(state, shape=(M, N)))
            return [state, h.accumulate(carried[1], outer), state]

        reverse = bool(self.rng.integers(2))
        last, gathered, taped = g.for_(g.number(N), start, body, walks=[x], tapes=1, length=N, reverse=reverse)

        def back(h: Builder, _i: Value, carried: list[Value], walked: list[Value]) -> list[Value]:
            return [h.add(h.sin(carried[0]), walked[0])]

        (again,) = g.for_(g.number(N), [last], back, walks=[taped], reverse=not reverse)
        return g.add(g.freeze(gathered), g.broadcast(again, shape=(M, N)))


def is_same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether results agree to the last bit; zeros of either sign agree, and so do NaNs."""
    return all(np.array_equal(one, other, equal_nan=True) for one, other in zip(left, right, strict=True))


def is_close(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether results agree but for the order of sums."""
    return all(
        np.allclose(one, other, rtol=1e-10, atol=1e-10, equal_nan=True) for one, other in zip(left, right, strict=True)
    )
