"""Names, literals, tuples, and the making of records."""

from __future__ import annotations

from dgraph.errors import Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import Solver, generic_argument, record_type
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Arguments, Context, evaluates, invokes
from dgraph.frontend.modules import unknown
from dgraph.frontend.values import (
    Binding,
    Bound,
    Literal,
    Pending,
    RecordMaker,
    RecordValue,
    Text,
    TupleValue,
    TypeValue,
)
from dgraph.types import Record, Type, with_axes


@evaluates(t.Name)
def name(ctx: Context, node: t.Name) -> Bound:
    """`x`."""
    return ctx.lookup(node.name, node.span).value


@evaluates(t.Number, t.Boolean)
def literal(_: Context, node: t.Number | t.Boolean) -> Bound:
    """`3`, `0.5`, `True`."""
    return Literal(node.value)


@evaluates(t.String)
def string(_: Context, node: t.String) -> Bound:
    """`"forward"`."""
    return Text(node.value)


@evaluates(t.Tuple)
def tuple_(ctx: Context, node: t.Tuple) -> Bound:
    """`a, b`."""
    return TupleValue(tuple(ctx.evaluate(item) for item in node.items))


@invokes(RecordMaker)
def make_record(ctx: Context, maker: RecordMaker, arguments: Arguments) -> Bound:
    """`Adam(mean=m, square=v, count=0)`."""
    declaration = maker.declaration
    names = [field.name for field in declaration.fields]
    if arguments.positional:
        note = f"`{declaration.name}({', '.join(f'{name}=...' for name in names)})`"
        raise TypeMismatch.at(arguments.positional[0].span, "a record is built by keyword", note=note)
    for given, binding in arguments.keywords.items():
        if given not in names:
            title = f"the record `{declaration.name}` has no field `{given}`"
            note = f"its fields are {', '.join(f'`{name}`' for name in names)}"
            raise unknown(binding.span, title, given, names, note)
    for field in declaration.fields:
        if field.name not in arguments.keywords:
            title = f"`{declaration.name}` needs its field `{field.name}`"
            raise TypeMismatch.at(arguments.span, title, "not given here", also=[(field.span, "declared here")])
    solver = Solver(ctx, maker.module, declaration.generics, {})
    solver.run([(field.type, arguments.keywords[field.name].value) for field in declaration.fields])
    if not solver.unsolved:
        solved = tuple(generic_argument(solver.names[generic.name].value) for generic in declaration.generics)
        return _built(ctx, record_type(ctx, maker, solved), maker, arguments)

    def make(type_: Type, span: Span) -> Bound:
        if not isinstance(type_, Record) or type_.name != declaration.name or type_.axes:
            raise TypeMismatch.at(span, f"{type_} is wanted here", f"this is a {declaration.name}")
        return _built(ctx, type_, maker, arguments)

    return Pending(declaration.name, arguments.span, make)


def _built(ctx: Context, type_: Record, maker: RecordMaker, arguments: Arguments) -> Bound:
    fields = {}
    for field, (name_, inner) in zip(maker.declaration.fields, type_.fields, strict=True):
        held: Binding = arguments.keywords[name_]
        fields[name_] = coerce(ctx, held.value, with_axes(inner, type_.axes), held.span, declared=field.type.span)
    return RecordValue(maker.declaration, type_.arguments, type_.axes, fields)


@invokes(TypeValue)
def make_generic(_: Context, _value: TypeValue, arguments: Arguments) -> Bound:
    """A generic record called as a maker."""
    raise TypeMismatch.at(arguments.span, "a generic record cannot be built by name", note="build the record itself")
