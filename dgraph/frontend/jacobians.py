"""Jacobians and Hessians: a `vmap` over unit tangents (forward) or unit cotangents (reverse).

The output's axes come first. With respect to records, and of records, the result is a tree of Jacobians.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product as product_of

from dgraph.classes import dataclass
from dgraph.errors import NotDifferentiable, Span
from dgraph.frontend.batching import basis, map_region
from dgraph.frontend.context import Context
from dgraph.frontend.formulas import with_axes_in_front
from dgraph.frontend.tracing import RULES, Traced, function_words, prepared, trace
from dgraph.frontend.transforms import require_scalar, value_of
from dgraph.frontend.values import (
    Binding,
    Bound,
    Leaf,
    Transformed,
    TupleValue,
    describe,
    leaves_of,
    map_bound,
    rebuild,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.transform import Jvp, SparseJacobian, Vjp
from dgraph.sizes import Size, product, size
from dgraph.types import Array


@dataclass(frozen=True)
class Sides:
    """A traced function with the positions of its float inputs and outputs."""

    traced: Traced
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symmetric: bool = False

    def input_type(self, at: int) -> Array:
        """The type of an input of the region."""
        type_ = self.traced.region.inputs[at].type
        assert isinstance(type_, Array)
        return type_

    def output_type(self, at: int) -> Array:
        """The type of an output of the region."""
        return self.traced.outputs[at].type


def jacobian(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    """`jacobian(f, wrt=x)`: the output's axes first, then those of the argument."""
    return _jacobian(ctx, function, values, span)[1]


def _jacobian(
    ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span, is_gradient: bool = False
) -> tuple[Bound, Bound]:
    """The function's value and its Jacobian; of a gradient, that of the first entry of the result alone."""
    values = prepared(ctx, function.function, values, function.wrt)
    traced = trace(ctx, function.function, values, function.wrt, span)
    inputs = traced.region.inputs[: len(traced.names)]
    outputs = tuple(at for at, leaf in enumerate(traced.outputs) if leaf.dtype.is_float)
    if is_gradient:
        require_scalar(function, traced.result, traced.outputs, span)
        outputs = (0,)
    positions = tuple(at for at, value in enumerate(inputs) if _is_float(value))
    sides = Sides(traced, positions, outputs, _is_slope(function))
    if not sides.inputs or not outputs:
        title = f"{function.words} needs float arguments and a float result"
        raise NotDifferentiable.at(span, title, f"it gives {describe(traced.result)}")
    with ctx.g.at(span=span):
        blocks = MAKERS[function.mode](ctx, sides, function_words(function))
    result = traced.result
    if is_gradient or len(outputs) < len(traced.outputs):
        # The value and what has no Jacobian are passed along, so the function itself runs too.
        primals = ctx.g.call(function_words(function), traced.operands, traced.region)
        leaves = [replace(leaf, value=value) for leaf, value in zip(traced.outputs, primals, strict=True)]
        result = rebuild(result, iter(leaves))
    return result, _arranged(ctx, function, values, sides, result, blocks)


def _is_slope(function: Transformed) -> bool:
    """Whether this is the Jacobian of a gradient with respect to the same arguments: a symmetric one."""
    inner = function.function
    return isinstance(inner, Transformed) and inner.kind == "slope" and inner.wrt == function.wrt


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Array) and value.type.dtype.is_float


Blocks = dict[tuple[int, int], Value]
"""The Jacobian of each output with respect to each input."""
Maker = Callable[[Context, Sides, str], Blocks]
REVERSE = 2
"""The time of a reverse sweep in forward sweeps."""
FEW = 8
"""So many sweeps are few beside a number that the call decides."""


def _by_columns(ctx: Context, sides: Sides, words: str) -> Blocks:
    """Forward mode: one tangent per entry of an input."""
    blocks: Blocks = {}
    traced = sides.traced
    count = len(traced.operands)
    floats = [at for at, leaf in enumerate(traced.outputs) if leaf.dtype.is_float]
    for column in sides.inputs:
        op = Jvp(function=words, active=tuple(at == column for at in range(count)))

        def sweep(g: Builder, tangent: Value, op: Jvp = op) -> list[Value]:
            results = g.apply(op, *traced.operands, tangent, regions=[traced.region])
            tangents = zip(floats, results[len(traced.outputs) :], strict=True)
            return [value for row, value in tangents if row in sides.outputs]

        inner = sides.input_type(column)
        if not inner.shape:
            tangents: Sequence[Value] = sweep(ctx.g, ctx.g.constant(1.0, inner.dtype))
        else:
            extent, units = basis(ctx, inner)
            tangents = map_region(ctx, extent, units, sweep, words)
        for row, tangent in zip(sides.outputs, tangents, strict=True):
            blocks[row, column] = _column_last(ctx, tangent, sides.output_type(row), inner)
    return blocks


def _column_last(ctx: Context, tangents: Value, outer: Array, inner: Array) -> Value:
    """The axis over unit tangents moved behind the output's axes and taken apart into the input's axes."""
    if not inner.shape:
        return tangents
    rank = len(outer.shape)
    if rank:
        tangents = ctx.g.transpose(tangents, axes=(*range(1, rank + 1), 0))
    return tangents if len(inner.shape) == 1 else ctx.g.reshape(tangents, shape=outer.shape + inner.shape)


def _by_rows(ctx: Context, sides: Sides, words: str) -> Blocks:
    """Reverse mode: one cotangent per entry of an output."""
    blocks: Blocks = {}
    traced = sides.traced
    wrt = tuple(at in sides.inputs for at in range(len(traced.operands)))
    for row in sides.outputs:
        op = Vjp(function=words, wrt=wrt, seeded=tuple(at == row for at in range(len(traced.outputs))))

        def sweep(g: Builder, cotangent: Value, op: Vjp = op) -> list[Value]:
            results = g.apply(op, *traced.operands, cotangent, regions=[traced.region])
            return list(results[len(traced.outputs) :])

        outer = sides.output_type(row)
        if not outer.shape:
            cotangents: Sequence[Value] = sweep(ctx.g, ctx.g.constant(1.0, outer.dtype))
        else:
            extent, units = basis(ctx, outer)
            cotangents = map_region(ctx, extent, units, sweep, words)
        for column, cotangent in zip(sides.inputs, cotangents, strict=True):
            shape = outer.shape + sides.input_type(column).shape
            is_shaped = len(outer.shape) < 2
            blocks[row, column] = cotangent if is_shaped else ctx.g.reshape(cotangent, shape=shape)
    return blocks


def _by_sizes(ctx: Context, sides: Sides, words: str) -> Blocks:
    """The mode with fewer sweeps; where only the call can tell which that is, it is chosen there."""
    left = _chosen_later(ctx, sides, words)
    if left is not None:
        return left
    rows, columns = _counts(sides)
    if (rows - columns).is_nonnegative() or _is_few(columns):
        return _by_columns(ctx, sides, words)
    if (columns - rows).is_nonnegative() or _is_few(rows):
        return _by_rows(ctx, sides, words)
    keys = list(product_of(sides.outputs, sides.inputs))

    def side(make: Maker) -> Callable[[Builder], list[Value]]:
        def run(g: Builder) -> list[Value]:
            with ctx.region(g):
                blocks = make(ctx, sides, words)
                return [blocks[key] for key in keys]

        return run

    is_wide = ctx.g.greater(ctx.g.number(columns), ctx.g.number(REVERSE * rows))
    return dict(zip(keys, ctx.g.if_(is_wide, side(_by_rows), side(_by_columns)), strict=True))


def _chosen_later(ctx: Context, sides: Sides, words: str) -> Blocks | None:
    """A node whose sweeps a call may choose; None where that is not asked for, or where few sweeps do."""
    if not ctx.leaves_sweeps or any(_is_few(count) for count in _counts(sides)):
        return None
    return _in_one_node(ctx, sides, words, is_optional=True)


def _counts(sides: Sides) -> tuple[Size, Size]:
    """The rows and the columns."""
    rows = sum((product(sides.output_type(at).shape) for at in sides.outputs), size(0))
    columns = sum((product(sides.input_type(at).shape) for at in sides.inputs), size(0))
    return rows, columns


def _is_few(sweeps: Size) -> bool:
    return sweeps.constant is not None and sweeps.constant <= FEW


def _sparse(ctx: Context, sides: Sides, words: str) -> Blocks:
    """One node for all blocks: how many sweeps it takes is found when it runs."""
    return _in_one_node(ctx, sides, words, is_optional=False)


def _in_one_node(ctx: Context, sides: Sides, words: str, is_optional: bool) -> Blocks:
    traced = sides.traced
    op = SparseJacobian(
        function=words,
        wrt=tuple(at in sides.inputs for at in range(len(traced.operands))),
        rows=tuple(at in sides.outputs for at in range(len(traced.outputs))),
        symmetric=sides.symmetric,
        is_optional=is_optional,
    )
    found = ctx.g.apply(op, *traced.operands, regions=[traced.region])
    return dict(zip(product_of(sides.outputs, sides.inputs), found, strict=True))


MAKERS: Mapping[str, Maker] = {
    "auto": _by_sizes,
    "forward": _by_columns,
    "reverse": _by_rows,
    "sparse": _sparse,
}


def _arranged(
    ctx: Context, function: Transformed, values: Mapping[str, Binding], sides: Sides, result: Bound, blocks: Blocks
) -> Bound:
    """The tree of the result, with the tree of each argument in place of every float leaf."""
    rows = iter(range(len(sides.traced.outputs)))

    def at_output(held: Bound) -> Bound:
        row = next(rows)
        if row not in sides.outputs:
            return held
        columns = iter(range(len(sides.traced.names)))
        axes = sides.output_type(row).shape

        def at_input(primal: Bound) -> Bound:
            if not isinstance(primal, Leaf):
                return primal
            column = next(columns)
            if column in sides.inputs:
                return Leaf(blocks[row, column])
            # What is not differentiated rides along, once per entry of the output.
            return Leaf(ctx.g.broadcast(primal.value, shape=axes + primal.shape)) if axes else primal

        slopes = [_with_axes(map_bound(value_of(ctx, values, function, name), at_input), axes) for name in function.wrt]
        return TupleValue(tuple(slopes)) if function.is_tuple or len(slopes) > 1 else slopes[0]

    return map_bound(result, at_output)


def _with_axes(value: Bound, axes: tuple[Size, ...]) -> Bound:
    """Records of Jacobians are arrays of records over the output's axes."""
    return with_axes_in_front(value, axes, iter([leaf for _, leaf in leaves_of(value)]))


def hessian(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    """`hessian(f, wrt=x)`: the Jacobian of the gradient, which is square: forward, if no mode is asked for."""
    slope = replace(function, kind="slope", mode="auto")
    return jacobian(ctx, replace(function, kind="jacobian", function=slope), values, span)


def forward_gradient(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    """The value and the gradient of a scalar by tangents, one sweep per entry."""
    value, slope = _jacobian(ctx, function, values, span, is_gradient=True)
    if isinstance(value, TupleValue):
        assert isinstance(slope, TupleValue)
        slope = slope.items[0]
    return TupleValue((value, slope))


RULES["jacobian"] = jacobian
RULES["hessian"] = hessian
RULES["forward gradient"] = forward_gradient
