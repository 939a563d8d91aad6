"""Values of a type: made leaf by leaf, and brought to a declared type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dgraph.errors import SizeMismatch, Span, TypeMismatch
from dgraph.frontend.annotated_types import maker_of
from dgraph.frontend.context import Context
from dgraph.frontend.numbers import Agreement, cast_value, kind_of, recast_affine, require_dtype, spread, to_leaf
from dgraph.frontend.values import (
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
)
from dgraph.sizes import size
from dgraph.types import Array, Function, Record, Tuple, Type, with_axes
from dgraph.types import Extent as ExtentType


def value_of_type(ctx: Context, type_: Type, make: Callable[[str, Array], Leaf], name: str = "") -> Bound:
    """A value of a type with leaves made from their names and types."""
    if isinstance(type_, Array):
        return make(name, type_)
    if isinstance(type_, Tuple):
        items = enumerate(type_.items)
        return TupleValue(
            tuple(value_of_type(ctx, item, make, f"{name}.{at}" if name else str(at)) for at, item in items)
        )
    if isinstance(type_, Record):
        maker = maker_of(ctx, type_)
        fields = {
            field: value_of_type(ctx, with_axes(inner, type_.axes), make, f"{name}.{field}" if name else field)
            for field, inner in type_.fields
        }
        return RecordValue(maker.declaration, type_.arguments, type_.axes, fields)
    raise TypeError(f"a {type_} has no value in a graph")


def coerce(
    ctx: Context, value: Bound, type_: Type, span: Span, *, declared: Span | None = None, widen: bool = False
) -> Bound:
    """A value brought to a declared type: literals and weak values take its dtype, makers its shape, integers become
    its floats; with `widen` (typed bindings) a scalar is broadcast. Anything else is a mismatch."""
    if isinstance(value, Pending):
        return value.make(type_, span)
    if isinstance(type_, Array):
        return _coerce_array(ctx, value, type_, span, declared, widen)
    if isinstance(type_, ExtentType):
        if isinstance(value, Extent):
            return value
        if isinstance(value, Literal) and type(value.value) is int:
            return Extent(size(value.value))
    elif isinstance(type_, Tuple) and isinstance(value, TupleValue) and len(value.items) == len(type_.items):
        pairs = zip(value.items, type_.items, strict=True)
        return TupleValue(
            tuple(coerce(ctx, item, inner, span, declared=declared, widen=widen) for item, inner in pairs)
        )
    elif isinstance(type_, Record):
        return _coerce_record(ctx, value, type_, span, declared, widen)
    elif isinstance(type_, Function) and isinstance(value, Closure | Transformed | Builtin):
        return value
    raise _mismatch(value, type_, span, declared)


def _coerce_record(ctx: Context, value: Bound, type_: Record, span: Span, declared: Span | None, widen: bool) -> Bound:
    if isinstance(value, RecordValue) and value.name == type_.name and len(value.axes) == len(type_.axes):
        fields = {}
        for name, inner in type_.fields:
            wanted = with_axes(inner, type_.axes)
            try:
                fields[name] = coerce(ctx, value.fields[name], wanted, span, declared=declared)
            except SizeMismatch:
                raise _mismatch(value, type_, span, declared) from None
        return RecordValue(value.declaration, type_.arguments, type_.axes, fields)
    if widen and isinstance(value, Literal | Leaf) and not (isinstance(value, Leaf) and value.shape):
        parts = {
            name: coerce(ctx, value, with_axes(inner, type_.axes), span, declared=declared, widen=True)
            for name, inner in type_.fields
        }
        return RecordValue(maker_of(ctx, type_).declaration, type_.arguments, type_.axes, parts)
    raise _mismatch(value, type_, span, declared)


def _coerce_array(ctx: Context, value: Bound, type_: Array, span: Span, declared: Span | None, widen: bool) -> Bound:
    if isinstance(value, TupleValue) and not type_.shape:
        raise _mismatch(value, type_, span, declared)
    if not isinstance(value, Leaf | Literal | Extent):
        raise _mismatch(value, type_, span, declared)
    wanted, given = type_.dtype, kind_of(value)
    if given != wanted.kind and not (given == "int" and wanted.kind == "float"):
        raise _mismatch(value, type_, span, declared)
    if isinstance(value, Leaf) and given == wanted.kind and value.dtype != wanted:
        if value.weak:
            require_dtype(value, wanted, declared)
        if not value.soft:
            raise _mismatch(value, type_, span, declared, f"cast it: `{wanted}(...)`")
    if isinstance(value, Leaf):
        leaf = Leaf(cast_value(ctx, value.value, wanted), affine=recast_affine(value, wanted))
    else:
        leaf = replace(to_leaf(ctx, value, Agreement(wanted), span), weak=frozenset(), soft=False)
    if leaf.shape == type_.shape:
        return leaf
    if not leaf.shape and widen:
        return spread(ctx, leaf, type_.shape)
    raise _mismatch(leaf, type_, span, declared)


def _mismatch(value: Bound, type_: Type, span: Span, declared: Span | None, note: str = "") -> TypeMismatch:
    also = [] if declared is None or declared == span else [(declared, f"{type_} is declared here")]
    same_rank = (
        isinstance(value, Leaf)
        and isinstance(type_, Array)
        and value.dtype.kind == type_.dtype.kind
        and len(value.shape) == len(type_.shape)
    )
    if same_rank and isinstance(value, Leaf) and isinstance(type_, Array) and value.shape != type_.shape:
        a, b = next((a, b) for a, b in zip(value.shape, type_.shape, strict=True) if a != b)
        note = note or f"{a} and {b} are not the same size for all values"
        return SizeMismatch.at(span, f"{type_} is wanted here", describe(value), also=also, note=note)  # type: ignore[return-value]
    note = note or _cure(value, type_)
    return TypeMismatch.at(span, f"{type_} is wanted here", describe(value), also=also, note=note)


def _cure(value: Bound, type_: Type) -> str:
    """How a value of one kind becomes one of another."""
    if isinstance(value, Closure | Transformed):
        return "call it, as in `f(x)` or `grad(f)(x)`"
    found = value.dtype.kind if isinstance(value, Leaf) else kind_of(value) if isinstance(value, Literal) else ""
    wanted = type_.dtype.kind if isinstance(type_, Array) else ""
    if found == "float" and wanted == "int":
        return f"a float never becomes an integer by itself: write `{type_.dtype}(floor(x))`"  # type: ignore[union-attr]
    if found == "bool" and wanted in ("int", "float"):
        return "write `1.0 if c else 0.0`" if wanted == "float" else "write `1 if c else 0`"
    return "compare it: `x != 0`" if wanted == "bool" and found in ("int", "float") else ""
