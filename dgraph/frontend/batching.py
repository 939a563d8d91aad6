"""`vmap`: a function for every entry of the leading axis of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dgraph.errors import Span, TypeMismatch
from dgraph.frontend.context import Context
from dgraph.frontend.formulas import leading_extent, with_axes_in_front
from dgraph.frontend.tracing import RULES, function_words, trace
from dgraph.frontend.transforms import value_of
from dgraph.frontend.values import Binding, Bound, FunctionValue, Leaf, Transformed, leaves_of
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.transform import Vmap
from dgraph.sizes import Size, product
from dgraph.types import Array, Shape


def _vmap(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    extent: Size | None = None
    first: Span | None = None
    for name in function.wrt:
        held = value_of(ctx, values, function, name)
        place = values[name].span if name in values else span
        for _, leaf in leaves_of(held):
            length = leading_extent(leaf, place)
            if extent is not None and length != extent:
                raise TypeMismatch.at(
                    place,
                    f"`vmap` runs over axes of lengths {extent} and {length}",
                    f"length {length}",
                    also=[] if first is None else [(first, f"length {extent}")],
                )
            extent, first = length, place
    assert extent is not None
    return batched(ctx, function.function, values, function.wrt, extent, span)


def batched(
    ctx: Context, function: FunctionValue, values: Mapping[str, Binding], over: Sequence[str], extent: Size, span: Span
) -> Bound:
    """A `vmap` node: the function for every entry of the leading axis of the named arguments."""
    traced = trace(ctx, function, values, over, span, lambda _, leaf: Array(leaf.dtype, leaf.shape[1:]))
    captured = len(traced.operands) - len(traced.names)
    mapped = (True,) * len(traced.names) + (False,) * captured
    op = Vmap(function=function_words(function), mapped=mapped, extent=extent)
    with ctx.g.at(span=span):
        results = ctx.g.apply(op, *traced.operands, regions=[traced.region])
    arrays = [Leaf(value, leaf.weak, leaf.soft) for leaf, value in zip(traced.outputs, results, strict=True)]
    return with_axes_in_front(traced.result, (extent,), iter(arrays))


def map_region(
    ctx: Context, extent: Size, array: Value, body: Callable[[Builder, Value], Sequence[Value]], words: str
) -> tuple[Value, ...]:
    """A `vmap` node over the leading axis of one array, written by hand."""
    assert isinstance(array.type, Array)
    child = ctx.g.child()
    entry = child.input(Array(array.type.dtype, array.type.shape[1:]), "basis")
    with ctx.region(child):
        outputs = body(child, entry)
    region = child.close(outputs)
    mapped = (True,) + (False,) * len(child.captures)
    return ctx.g.apply(Vmap(function=words, mapped=mapped, extent=extent), array, *child.captures, regions=[region])


def basis(ctx: Context, type_: Array) -> tuple[Size, Value]:
    """The unit arrays of a type along a new leading axis, and how many there are."""
    count = product(type_.shape)

    def point(h: Builder, i: Value, j: Value) -> Value:
        return h.cast(h.equal(i, j), dtype=type_.dtype)

    flat = ctx.g.map((count, count), point)
    shape: Shape = (count, *type_.shape)
    return count, flat if len(type_.shape) == 1 else ctx.g.reshape(flat, shape=shape)


RULES["vmap"] = _vmap
