"""What `assert n == 2 * m` says of types: in the rest of its block one size is written with the others.

The values bound so far take the new sizes as slices of their whole axes; the assertion itself stays. What comes out of
a loop's body or a branch is written with the old sizes again, for there the assertion need not have run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dgraph.errors import Span
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import resolve
from dgraph.frontend.coercion import coerce, value_of_type
from dgraph.frontend.context import Context
from dgraph.frontend.facts import affine_side
from dgraph.frontend.joins import with_shape
from dgraph.frontend.numbers import has_values
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    Extent,
    Leaf,
    RecordValue,
    ShapeValue,
    Transformed,
    TupleValue,
    TypeValue,
    leaves_of,
)
from dgraph.sizes import Atom, Size, size, solve
from dgraph.types import Array, Function, Record, Shape, Tuple, Type


def learn(ctx: Context, condition: t.Expression) -> None:
    """Rewrite the names in sight after an assertion that makes sizes equal."""
    for left, right in _equations(condition):
        one, other = affine_side(ctx, left), affine_side(ctx, right)
        if one is None or other is None or has_values(one - other):
            continue
        found = _solved(one, other)
        if found is not None:
            values = {found[0]: found[1]}
            ctx.equal = (*ctx.equal, values)
            _substitute(ctx, values)


def _equations(condition: t.Expression) -> Iterator[tuple[t.Expression, t.Expression]]:
    if isinstance(condition, t.Logical) and condition.operator == "and":
        for operand in condition.operands:
            yield from _equations(operand)
    elif isinstance(condition, t.Compare):
        operands = condition.operands
        for operator, left, right in zip(condition.operators, operands, operands[1:], strict=False):
            if operator == "==":
                yield left, right


def _solved(left: Size, right: Size) -> tuple[Atom, Size] | None:
    """A size variable and what it is equal to: one of the left side, if that can be."""
    for atom in (*left.atoms(), *right.atoms()):
        if isinstance(atom, str):
            value = solve(left - right, size(0), atom)
            if value is not None:
                return atom, value
    return None


def _substitute(ctx: Context, values: dict[Atom, Size]) -> None:
    seen: dict[Binding, Binding] = {}
    for name, held in ctx.names.items():
        ctx.names[name] = _bound_anew(ctx, held, values, seen)
    ctx.facts = tuple(dict.fromkeys(fact.substitute(values) for fact in ctx.facts))
    ctx.ranges = {index: (low.substitute(values), high.substitute(values)) for index, (low, high) in ctx.ranges.items()}


def _bound_anew(ctx: Context, held: Binding, values: Mapping[Atom, Size], seen: dict[Binding, Binding]) -> Binding:
    """A binding with the sizes of its value rewritten; `seen` holds those that several functions capture."""
    if held not in seen:
        changed = _rewritten(ctx, held.value, values, seen)
        seen[held] = held if changed is held.value else Binding(changed, held.span, held)
    return seen[held]


def unwritten(held: Binding, before: Binding | None) -> Binding:
    """What a name was bound to before, if only its sizes have been written anew since; else what it is bound to."""
    found: Binding | None = held
    while found is not None and found is not before:
        found = found.origin
    return held if found is None else found


def _rewritten(ctx: Context, value: Bound, values: Mapping[Atom, Size], seen: dict[Binding, Binding]) -> Bound:
    """A value with the sizes of its type rewritten; itself if it has none of them."""

    def shaped(shape: Shape) -> Shape:
        return tuple(extent.substitute(values) for extent in shape)

    if isinstance(value, Closure):
        if value.names is None:
            return value
        names = {name: _bound_anew(ctx, held, values, seen) for name, held in value.names.items()}
        is_same = all(names[name] is held for name, held in value.names.items())
        return value if is_same else replace(value, names=names)
    if isinstance(value, Transformed):
        function = _rewritten(ctx, value.function, values, seen)
        assert isinstance(function, Closure | Transformed)
        return value if function is value.function else replace(value, function=function)
    if isinstance(value, TypeValue):
        type_ = _type_with(value.type, values)
        return value if type_ == value.type else TypeValue(type_)

    if isinstance(value, Leaf):
        affine = None if value.affine is None else value.affine.substitute(values)
        moved = with_shape(ctx, value, shaped(value.shape))
        return value if moved is value and affine == value.affine else replace(moved, affine=affine)
    if isinstance(value, Extent):
        found = value.size.substitute(values)
        return value if found == value.size else Extent(found)
    if isinstance(value, ShapeValue):
        found_shape = shaped(value.shape)
        return value if found_shape == value.shape else ShapeValue(found_shape)
    if isinstance(value, TupleValue):
        items = tuple(_rewritten(ctx, item, values, seen) for item in value.items)
        return value if all(a is b for a, b in zip(items, value.items, strict=True)) else TupleValue(items)
    if isinstance(value, RecordValue):
        fields = {name: _rewritten(ctx, item, values, seen) for name, item in value.fields.items()}
        arguments = tuple(_argument(part, values) for part in value.arguments)
        if arguments == value.arguments and all(fields[name] is item for name, item in value.fields.items()):
            return value
        return RecordValue(value.declaration, arguments, shaped(value.axes), fields)
    return value


def _argument(part: object, values: Mapping[Atom, Size]) -> object:
    if isinstance(part, Size):
        return part.substitute(values)
    if isinstance(part, Array | Tuple | Record | Function):
        return _type_with(part, values)
    return tuple(_argument(inner, values) for inner in part) if isinstance(part, tuple) else part


def _type_with(type_: Type, values: Mapping[Atom, Size]) -> Type:
    """A type with its sizes rewritten."""
    if isinstance(type_, Array):
        return Array(type_.dtype, tuple(extent.substitute(values) for extent in type_.shape))
    if isinstance(type_, Tuple):
        return Tuple(tuple(_type_with(item, values) for item in type_.items))
    if isinstance(type_, Record):
        fields = tuple((name, _type_with(inner, values)) for name, inner in type_.fields)
        axes = tuple(extent.substitute(values) for extent in type_.axes)
        arguments = tuple(_argument(part, values) for part in type_.arguments)
        return Record(type_.name, fields, arguments, axes)
    return type_


def as_declared(
    ctx: Context, value: Bound, written: t.TypeExpression, names: Mapping[str, Binding], span: Span
) -> Bound:
    """A result brought to the type that its function declares, under the sizes of `names`: those before any assertion
    that has rewritten them."""
    wanted = resolve(ctx, written)
    made = coerce(ctx, value, wanted, span, declared=written.span)
    with ctx.within(ctx.module, dict(names)):
        declared = resolve(ctx, written)
    return made if declared == wanted else _with_sizes_of(ctx, made, declared)


def _with_sizes_of(ctx: Context, value: Bound, type_: Type) -> Bound:
    leaves = iter([leaf for _, leaf in leaves_of(value)])

    def make(_: str, wanted: Array) -> Leaf:
        leaf = next(leaves)
        assert isinstance(leaf, Leaf)
        return with_shape(ctx, leaf, wanted.shape)

    return value_of_type(ctx, type_, make)
