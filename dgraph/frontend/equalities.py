"""What `assert n == 2 * m` says of types: in the rest of the function one size is written with the others.

The values bound so far take the new sizes as slices of their whole axes; the assertion itself stays.
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
from dgraph.frontend.numbers import has_values
from dgraph.frontend.values import (
    Binding,
    Bound,
    Extent,
    Leaf,
    RecordValue,
    ShapeValue,
    TupleValue,
    leaves_of,
)
from dgraph.sizes import Atom, Size, size, solve
from dgraph.types import Array, Shape, Type


def learn(ctx: Context, condition: t.Expression) -> None:
    """Rewrite the names in sight after an assertion that makes sizes equal."""
    for left, right in _equations(condition):
        one, other = affine_side(ctx, left), affine_side(ctx, right)
        if one is None or other is None or has_values(one - other):
            continue
        found = _solved(one, other)
        if found is not None:
            _substitute(ctx, {found[0]: found[1]})
            ctx.learnt += 1


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
    for name, held in ctx.names.items():
        changed = _rewritten(ctx, held.value, values)
        if changed is not held.value:
            ctx.names[name] = Binding(changed, held.span)
    ctx.facts = tuple(dict.fromkeys(fact.substitute(values) for fact in ctx.facts))


def _rewritten(ctx: Context, value: Bound, values: dict[Atom, Size]) -> Bound:
    """A value with the sizes of its type rewritten; itself if it has none of them."""

    def shaped(shape: Shape) -> Shape:
        return tuple(extent.substitute(values) for extent in shape)

    if isinstance(value, Leaf):
        affine = None if value.affine is None else value.affine.substitute(values)
        moved = _with_shape(ctx, value, shaped(value.shape))
        return value if moved is value and affine == value.affine else replace(moved, affine=affine)
    if isinstance(value, Extent):
        found = value.size.substitute(values)
        return value if found == value.size else Extent(found)
    if isinstance(value, ShapeValue):
        found_shape = shaped(value.shape)
        return value if found_shape == value.shape else ShapeValue(found_shape)
    if isinstance(value, TupleValue):
        items = tuple(_rewritten(ctx, item, values) for item in value.items)
        return value if all(a is b for a, b in zip(items, value.items, strict=True)) else TupleValue(items)
    if isinstance(value, RecordValue):
        fields = {name: _rewritten(ctx, item, values) for name, item in value.fields.items()}
        arguments = tuple(_argument(part, values) for part in value.arguments)
        if arguments == value.arguments and all(fields[name] is item for name, item in value.fields.items()):
            return value
        return RecordValue(value.declaration, arguments, shaped(value.axes), fields)
    return value


def _argument(part: object, values: dict[Atom, Size]) -> object:
    if isinstance(part, Size):
        return part.substitute(values)
    return tuple(_argument(inner, values) for inner in part) if isinstance(part, tuple) else part


def _with_shape(ctx: Context, leaf: Leaf, shape: Shape) -> Leaf:
    """An array under a shape that is equal to its own as the program runs."""
    if shape == leaf.shape:
        return leaf
    starts, steps = (size(0),) * len(shape), (1,) * len(shape)
    return Leaf(ctx.g.slice(leaf.value, starts=starts, steps=steps, shape=shape), leaf.weak, leaf.soft)


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
        return _with_shape(ctx, leaf, wanted.shape)

    return value_of_type(ctx, type_, make)
