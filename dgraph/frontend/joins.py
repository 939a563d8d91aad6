"""Values that come from two sides: both branches of a choice, the start and the end of a loop's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import DgraphError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.numbers import Agreement, agree, broadcast_shapes, fresh_dtype, kind_of, spread, to_leaf
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    Closure,
    Extent,
    Leaf,
    Literal,
    Pending,
    RecordValue,
    Transformed,
    TupleValue,
    describe,
    type_of,
)
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Value
from dgraph.sizes import Atom, Size, size
from dgraph.types import BOOL, F64, I32, I64, KEY, Shape


@dataclass(frozen=True)
class Side:
    """What one branch gives: its builder, its value, the place of it, and the sizes that it asserts to be equal."""

    builder: Builder
    value: Bound
    span: Span
    equal: tuple[Mapping[Atom, Size], ...] = ()


@dataclass
class Join:
    """Outputs gathered for both sides, in step."""

    outputs: tuple[list[Value], list[Value]]
    fault: Callable[[Bound, Bound], DgraphError]
    widen: bool


def with_shape(ctx: Context, leaf: Leaf, shape: Shape) -> Leaf:
    """An array under a shape that is equal to its own as the program runs."""
    if shape == leaf.shape:
        return leaf
    starts, steps = (size(0),) * len(shape), (1,) * len(shape)
    return Leaf(ctx.g.slice(leaf.value, starts=starts, steps=steps, shape=shape), leaf.weak, leaf.soft)


def rewritten(shape: Shape, equal: Sequence[Mapping[Atom, Size]]) -> Shape:
    """A shape under what assertions say of its sizes."""
    for values in equal:
        shape = tuple(extent.substitute(values) for extent in shape)
    return shape


FUNCTIONS = (Builtin, Closure, Transformed)

Rebuild = Callable[[Iterator[Value]], Bound]
"""Makes the joined value from the results of the region op."""


def join_sides(
    ctx: Context, a: Side, b: Side, outputs: tuple[list[Value], list[Value]], *, widen: bool = False, words: str = ""
) -> Rebuild:
    """Bring two values to one type: adds outputs for both sides and says how to rebuild the value from the results."""

    def fault(one: Bound, other: Bound) -> DgraphError:
        return TypeMismatch.at(
            b.span,
            f"{words or 'the two sides'} {'has' if words else 'have'} different types",
            describe(other),
            also=[(a.span, describe(one))],
            note="both sides of a choice give one type",
        )

    return _join(ctx, a, b, a.value, b.value, Join(outputs, fault, widen))


def _join(ctx: Context, a: Side, b: Side, one: Bound, other: Bound, join: Join) -> Rebuild:
    if one is other and not isinstance(one, Leaf):
        return lambda _: one
    if isinstance(one, Pending) or isinstance(other, Pending):
        return _join_pending(ctx, a, b, one, other, join)
    if isinstance(one, RecordValue) and isinstance(other, RecordValue):
        if one.declaration is not other.declaration or len(one.axes) != len(other.axes):
            raise join.fault(one, other)
        parts = {name: _join(ctx, a, b, held, other.fields[name], join) for name, held in one.fields.items()}
        is_written_anew = one.axes != other.axes or one.arguments != other.arguments
        record = other if is_written_anew and a.equal else one
        return lambda found: replace(record, fields={name: make(found) for name, make in parts.items()})
    if isinstance(one, TupleValue) and isinstance(other, TupleValue):
        if len(one.items) != len(other.items):
            raise join.fault(one, other)
        items = [_join(ctx, a, b, x, y, join) for x, y in zip(one.items, other.items, strict=True)]
        return lambda found: TupleValue(tuple([make(found) for make in items]))
    if isinstance(one, Literal | Extent) and same_static(one, other):
        return lambda _: one
    if isinstance(one, Leaf | Literal | Extent) and isinstance(other, Leaf | Literal | Extent):
        return _join_numbers(ctx, a, b, one, other, join)
    if isinstance(one, FUNCTIONS) or isinstance(other, FUNCTIONS):
        raise TypeMismatch.at(
            b.span,
            "a function cannot be chosen as the program runs",
            "differs from the other side",
            also=[(a.span, "the other side")],
            note="choose between the results of both calls",
        )
    raise join.fault(one, other)


def same_static(one: Bound, other: Bound) -> bool:
    """Whether two static numbers are the same."""
    if isinstance(one, Literal) and isinstance(other, Literal):
        same = type(one.value) is type(other.value) and one.value == other.value
        return same and str(one.value) == str(other.value)
    return isinstance(one, Extent) and isinstance(other, Extent) and one.size == other.size


def _join_pending(ctx: Context, a: Side, b: Side, one: Bound, other: Bound, join: Join) -> Rebuild:
    known = type_of(other if isinstance(one, Pending) else one)
    if known is None:
        raise join.fault(one, other)
    if isinstance(one, Pending):
        with ctx.region(a.builder):
            one = one.make(known, a.span)
    if isinstance(other, Pending):
        with ctx.region(b.builder):
            other = other.make(known, b.span)
    return _join(ctx, a, b, one, other, join)


def _join_numbers(
    ctx: Context, a: Side, b: Side, one: Leaf | Literal | Extent, other: Leaf | Literal | Extent, join: Join
) -> Rebuild:
    kinds = {kind_of(one), kind_of(other)}
    if len(kinds) > 1 and kinds != {"float", "int"}:
        raise join.fault(one, other)
    one, other = _in_one_shape(ctx, a, b, one, other)
    shapes: list[Shape] = [value.shape if isinstance(value, Leaf) else () for value in (one, other)]
    if shapes[0] != shapes[1] and not (join.widen and () in shapes):
        raise join.fault(one, other)
    if isinstance(one, Literal) and isinstance(other, Literal):
        agreement = _fresh_for(ctx, kinds)
    elif kinds == {"key"}:
        agreement = Agreement(KEY)
    else:
        agreement = agree(ctx, [Binding(one, a.span), Binding(other, b.span)], bools=True)
    shape = broadcast_shapes([(shapes[0], a.span), (shapes[1], b.span)])
    for side, value, output in zip((a, b), (one, other), join.outputs, strict=True):
        with ctx.region(side.builder):
            output.append(spread(ctx, to_leaf(ctx, value, agreement, side.span), shape).value)
    return lambda found: Leaf(next(found), agreement.weak, agreement.soft)


def _in_one_shape(
    ctx: Context, a: Side, b: Side, one: Leaf | Literal | Extent, other: Leaf | Literal | Extent
) -> tuple[Leaf | Literal | Extent, Leaf | Literal | Extent]:
    """Arrays whose shapes are equal by what one side asserts: that side's takes the shape of the other."""
    if not isinstance(one, Leaf) or not isinstance(other, Leaf) or one.shape == other.shape:
        return one, other
    if a.equal and rewritten(one.shape, a.equal) == rewritten(other.shape, a.equal):
        with ctx.region(a.builder):
            return with_shape(ctx, one, other.shape), other
    if b.equal and rewritten(one.shape, b.equal) == rewritten(other.shape, b.equal):
        with ctx.region(b.builder):
            return one, with_shape(ctx, other, one.shape)
    return one, other


def _fresh_for(ctx: Context, kinds: set[str]) -> Agreement:
    if kinds == {"bool"}:
        return Agreement(BOOL)
    return fresh_dtype(ctx, I32 if kinds == {"int"} else F64, "joined")


def choose(
    ctx: Context,
    predicate: Value,
    then: Callable[[], tuple[Bound, Span]],
    otherwise: Callable[[], tuple[Bound, Span]],
    *,
    widen: bool,
    words: str = "",
) -> Bound:
    """An `if` node with one value; only the taken side runs."""
    sides = []
    for run in (then, otherwise):
        builder = ctx.g.child()
        with ctx.region(builder), ctx.local():
            value, span = run()
            equal = ctx.equal
        sides.append(Side(builder, value, span, equal))
    outputs: tuple[list[Value], list[Value]] = ([], [])
    rebuild = join_sides(ctx, sides[0], sides[1], outputs, widen=widen, words=words)
    return rebuild(iter(emit_if(ctx, predicate, sides, outputs)))


def emit_if(ctx: Context, predicate: Value, sides: Sequence[Side], outputs: Sequence[list[Value]]) -> list[Value]:
    """The `if` node of two finished sides; none if nothing comes out of it and nothing is checked inside."""
    from dgraph.ops.control import If

    has_checks = any(node.op.effect != "pure" or node.regions for side in sides for node in side.builder.nodes)
    if not outputs[0] and not has_checks:
        return []
    regions, captures = close_together([side.builder for side in sides], outputs)
    return list(ctx.g.apply(If(), predicate, *captures, regions=regions))


# ---- carried values -------------------------------------------------------------------------------------------------


def carry_start(ctx: Context, name: str, value: Bound, span: Span) -> Bound:
    """The value of a name as a loop carries it: every leaf a graph value; literals and sizes take the dtype that the
    loop's body needs."""
    from dgraph.frontend.values import leaves_of, rebuild

    made: list[Bound] = []
    for at, (_, held) in enumerate(leaves_of(value)):
        if isinstance(held, Leaf) and not held.soft:
            made.append(replace(held, affine=None))
        elif isinstance(held, Literal) and isinstance(held.value, bool):
            made.append(to_leaf(ctx, held, Agreement(BOOL), span))
        elif isinstance(held, Literal | Extent | Leaf):
            default = F64 if kind_of(held) == "float" else I32 if isinstance(held, Literal) else I64
            agreement = fresh_dtype(ctx, default, "carried", name, at)
            is_soft = not isinstance(held, Literal)
            leaf = to_leaf(ctx, held, agreement, span)
            made.append(Leaf(leaf.value, agreement.weak, soft=is_soft))
        elif isinstance(held, FUNCTIONS):
            title = f"`{name}` is a function and changes in a loop"
            note = "carry the numbers that change, and let the function read them"
            raise TypeMismatch.at(span, title, "a loop carries values only", note=note)
        elif isinstance(held, Pending):
            entry = ctx.module.lookup(held.words)
            is_record = entry is not None and isinstance(entry.item, t.Record)
            written = f"{held.words}[n] = {held.words}(...)" if is_record else f"f64[n] = {held.words}()"
            note = f"give it a type: `{name}: {written}`"
            raise TypeMismatch.at(span, f"`{name}` has no shape yet and changes in a loop", note=note)
        else:
            raise TypeMismatch.at(span, f"`{name}` changes in a loop", f"this is {describe(held)}")
    return rebuild(value, iter(made))


def carry_end(ctx: Context, name: str, start: Bound, end: Bound, places: tuple[Span, Span]) -> list[Value]:
    """The values at the end of a step, brought to the types that the loop carries."""
    if isinstance(end, Pending):
        known = type_of(start)
        assert known is not None
        end = end.make(known, places[1])
    if isinstance(start, RecordValue) and isinstance(end, RecordValue) and start.declaration is end.declaration:
        pairs = [(start.fields[field], end.fields[field]) for field in start.fields]
    elif isinstance(start, TupleValue) and isinstance(end, TupleValue) and len(start.items) == len(end.items):
        pairs = list(zip(start.items, end.items, strict=True))
    elif isinstance(start, Leaf) and isinstance(end, Leaf | Literal | Extent):
        return [_carry_leaf(ctx, name, start, end, places)]
    else:
        raise changed(name, start, end, places)
    return [value for one, other in pairs for value in carry_end(ctx, name, one, other, places)]


def _carry_leaf(ctx: Context, name: str, start: Leaf, end: Leaf | Literal | Extent, places: tuple[Span, Span]) -> Value:
    if isinstance(end, Leaf) and rewritten(start.shape, ctx.equal) == rewritten(end.shape, ctx.equal):
        end = with_shape(ctx, end, start.shape)
    shape = end.shape if isinstance(end, Leaf) else ()
    kinds = kind_of(start), kind_of(end)
    fits = kinds[0] == kinds[1] or (kinds == ("float", "int")) or (kinds == ("int", "float") and bool(start.weak))
    if not fits or shape != start.shape:
        raise changed(name, start, end, places)
    if kinds[0] in ("key", "bool"):
        return to_leaf(ctx, end, Agreement(start.dtype), places[1]).value
    agreement = agree(ctx, [Binding(start, places[0]), Binding(end, places[1])])
    if agreement.dtype != start.dtype:
        if not start.weak:
            raise changed(name, start, end, places)
        from dgraph.frontend.numbers import require_dtype

        require_dtype(start, agreement.dtype, places[1])
    return to_leaf(ctx, end, Agreement(start.dtype), places[1]).value


def changed(name: str, start: Bound, end: Bound, places: tuple[Span, Span]) -> TypeMismatch:
    """A carried name that does not keep its type."""
    return TypeMismatch.at(
        places[1],
        f"`{name}` changes type inside the loop",
        f"{describe(end)} at the end of the body",
        also=[(places[0], f"{describe(start)} on entry")],
        note="a carried value keeps one type; collect with `ys[t] = ...` to build an array",
    )
