"""Reducers over counts that only the run decides: loops that carry what has been found so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.classes import dataclass
from dgraph.errors import TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.emptiness import require_guarded
from dgraph.frontend.formulas import Index
from dgraph.frontend.nests import guarded, loop_nest
from dgraph.frontend.operators import binary
from dgraph.frontend.values import Binding, Bound, Leaf, TupleValue, describe, rebuild
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.index import neutral
from dgraph.types import BOOL, I64, Accumulator, Array, DType, Shape

Terms = Callable[[], tuple[Bound, list[Leaf]]]
"""The tree of a term and its leaves, at one point."""

RUNNING = {"sum": ("add", "add"), "prod": ("mul", "mul"), "any": ("logical_or", "or"), "all": ("logical_and", "and")}
"""How a reducer joins one more term to the ones before, and the accumulator whose neutral element it starts from."""


@dataclass(frozen=True)
class Counted:
    """A reducer over indices of which some have a count that only the run decides."""

    ctx: Context
    word: str
    node: t.Reduce
    indices: Sequence[Index]
    terms: Terms

    def value(self) -> Bound:
        """What the reducer gives."""
        term, leaves = self._tried()
        if self.word in ("argmax", "argmin"):
            return self._position(self._only(leaves))
        if self.word in ("max", "min"):
            for leaf in leaves:
                self._only([leaf])
            found = [self._extremes(leaf.dtype, leaf.shape, at)[0] for at, leaf in enumerate(leaves)]
            return rebuild(term, iter([Leaf(v, one.weak, one.soft) for v, one in zip(found, leaves, strict=True)]))
        if self.word == "logsumexp":
            return self._logsumexp(self._only(leaves))
        return self._running(term, leaves)

    def _tried(self) -> tuple[Bound, list[Leaf]]:
        """The term at a free point, lowered aside, for its type."""
        ctx = self.ctx
        found: list[tuple[Bound, list[Leaf]]] = []

        def once(carries: list[Value], _: Sequence[Value]) -> list[Value]:
            found.append(self.terms())
            return carries

        with ctx.region(ctx.g.child()):
            loop_nest(ctx, self.indices, [], guarded(ctx, self.node.generator.guard, once))
        return found[-1]

    @property
    def _why(self) -> str:
        """Why there may be no term."""
        return "the range is empty" if self.node.generator.guard is None else "no term satisfies the guard"

    def _only(self, leaves: Sequence[Leaf]) -> Leaf:
        if len(leaves) != 1:
            place, note = self.node.body.span, "reduce one part of a record or a tuple"
            raise TypeMismatch.at(place, f"`{self.word}` reduces numbers", "this has several parts", note=note)
        if leaves[0].dtype.kind not in ("float", "int"):
            place = self.node.body.span
            raise TypeMismatch.at(place, f"`{self.word}` reduces numbers", f"this is {describe(leaves[0])}")
        return leaves[0]

    def _nest(
        self, starts: Sequence[Value], step: Callable[[list[Value], list[Leaf], Sequence[Value]], list[Value]]
    ) -> list[Value]:
        """The carried values after all steps; a step is given them, the leaves of the term, and the indices."""

        def one(carries: list[Value], at: Sequence[Value]) -> list[Value]:
            return step(carries, self.terms()[1], at)

        return loop_nest(self.ctx, self.indices, starts, guarded(self.ctx, self.node.generator.guard, one))

    def _start(self, dtype: DType, shape: Shape, kind: str) -> Value:
        missing = neutral(Accumulator(dtype, shape, kind))
        value = bool(missing) if dtype is BOOL else int(missing) if dtype.kind == "int" else float(missing)
        return self.ctx.g.full(value, Array(dtype, shape))

    # ---- sums, products, questions ------------------------------------------------------------------------------

    def _running(self, term: Bound, leaves: Sequence[Leaf]) -> Bound:
        ctx, is_mean = self.ctx, self.word == "mean"
        op, kind = RUNNING["sum" if is_mean else self.word]
        for leaf in leaves:
            if self.word in ("any", "all") and leaf.dtype is not BOOL:
                place, note = self.node.body.span, "compare first: `x != 0`"
                raise TypeMismatch.at(place, f"`{self.word}` asks about bools", f"this is {describe(leaf)}", note=note)
            if self.word == "prod" and leaf.dtype.kind not in ("float", "int"):
                raise TypeMismatch.at(self.node.body.span, "`prod` reduces numbers", f"this is {describe(leaf)}")
        starts = [self._start(leaf.dtype, leaf.shape, kind) for leaf in leaves]
        if is_mean:
            starts.append(ctx.g.number(0))

        def step(carries: list[Value], found: list[Leaf], _: Sequence[Value]) -> list[Value]:
            g = ctx.g
            out = [getattr(g, op)(own, leaf.value) for own, leaf in zip(carries, found, strict=False)]
            return [*out, g.add(carries[-1], g.number(1))] if is_mean else out

        results = self._nest(starts, step)
        totals = [Leaf(value, leaf.weak, leaf.soft) for value, leaf in zip(results, leaves, strict=False)]
        total = rebuild(term, iter(totals))
        if not is_mean:
            return total
        span = self.node.span
        require_guarded(ctx, "mean", ctx.g.greater(results[-1], ctx.g.number(0)), span, self._why)
        return binary(ctx, "/", Binding(total, span), Binding(Leaf(results[-1], soft=True), span))

    # ---- extremes -----------------------------------------------------------------------------------------------

    def _extremes(
        self, dtype: DType, shape: Shape, leaf: int = 0, *, is_stopped: bool = False, word: str = ""
    ) -> list[Value]:
        """The first extremal term, whether there is any, and the place of it in each index. A NaN is extremal."""
        ctx, g = self.ctx, self.ctx.g
        word = (word or self.word).removeprefix("arg")
        starts = [self._start(dtype, shape, word), g.full(False, Array(BOOL, shape))]
        starts += [g.full(0, Array(I64, shape)) for _ in self.indices]

        def step(carries: list[Value], found: list[Leaf], at: Sequence[Value]) -> list[Value]:
            h = ctx.g
            best, has, *places = carries
            term = found[leaf].value
            if is_stopped:
                term = h.stop_gradient(term)
            takes = self._takes(h, word, term, best, has, dtype)
            here = [h.widen(place, shape) for place in at]
            moved = [h.select(takes, new, old) for new, old in zip(here, places, strict=True)]
            return [h.select(takes, term, best), h.full(True, Array(BOOL, shape)), *moved]

        return self._nest(starts, step)

    @staticmethod
    def _takes(h: Builder, word: str, term: Value, best: Value, has: Value, dtype: DType) -> Value:
        better = h.greater(term, best) if word == "max" else h.less(term, best)
        if dtype.is_float:
            is_first_nan = h.logical_and(h.not_equal(term, term), h.equal(best, best))
            better = h.logical_or(better, is_first_nan)
        return h.logical_or(h.logical_not(has), better)

    def _position(self, leaf: Leaf) -> Bound:
        _, has, *places = self._extremes(leaf.dtype, leaf.shape)
        is_any = has if not leaf.shape else self.ctx.g.reduce_all(has, axes=tuple(range(len(leaf.shape))))
        require_guarded(self.ctx, self.word, is_any, self.node.span, self._why)
        found = [Leaf(place, soft=True) for place in places]
        return found[0] if len(found) == 1 else TupleValue(tuple(found))

    def _logsumexp(self, leaf: Leaf) -> Bound:
        """The largest term stands outside of the logarithm, unless it is infinite."""
        ctx, g = self.ctx, self.ctx.g
        dtype, shape = leaf.dtype, leaf.shape
        largest = self._extremes(dtype, shape, is_stopped=True, word="max")[0]
        zero = g.full(0.0, Array(dtype, shape))
        base = g.select(g.isfinite(largest), largest, zero)

        def step(carries: list[Value], found: list[Leaf], _: Sequence[Value]) -> list[Value]:
            h = ctx.g
            return [h.add(carries[0], h.exp(h.sub(found[0].value, base)))]

        (total,) = self._nest([zero], step)
        return Leaf(g.add(g.log(total), base), leaf.weak)
