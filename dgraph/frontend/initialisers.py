"""Initial values of params and states: the defaults of their record fields, each draw with a key of its own."""

from __future__ import annotations

from collections.abc import Callable

from dgraph.errors import ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import generic_names, maker_of, resolve
from dgraph.frontend.builtins import ELEMENTWISE
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context, Frame, frame_loop
from dgraph.frontend.entry import deep
from dgraph.frontend.formulas import Index, solid, space_of
from dgraph.frontend.modules import Module, unknown
from dgraph.frontend.values import Bound, Leaf, RecordValue, TupleValue, rebuild, type_of
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph
from dgraph.types import KEY, Array, DType, Record, Tuple, Type


def lower_initialiser(module: Module, name: str, *, precision: DType | None = None) -> Graph:
    """The graph from one key to the initial value of a param or state."""
    stored = module.stored
    if name not in stored:
        raise unknown(module.tree.span, f"there is no param or state `{name}`", name, list(stored))
    item, owner = stored[name], module.names[name].module
    with deep():
        return _lower(owner, item, precision)


def _lower(module: Module, item: t.Stored, precision: DType | None) -> Graph:
    ctx = Context(module, precision)
    ctx.elementwise = ELEMENTWISE
    graph: list[Graph] = []

    def attempt() -> Bound:
        ctx.g = Builder()
        ctx.g.span = item.span
        key = Leaf(ctx.g.input(Array(KEY), "key"))
        ctx.ambient_key = _counter(ctx, key)
        wanted = resolve(ctx, item.type)
        if item.default is not None:
            value = coerce(ctx, ctx.evaluate(item.default), wanted, item.default.span, widen=True)
        else:
            value = initial(ctx, wanted, item.span, item.name)
        outputs = solid(ctx, value, item.span)
        found = type_of(rebuild(value, iter(outputs)))
        assert found is not None
        region = ctx.g.close([leaf.value for leaf in outputs])
        graph[:] = [Graph(f"initial_{item.name}", (), (Formal("key", Array(KEY)),), found, region, item.span)]
        return value

    frame_loop(ctx, Frame(f"the initial value of `{item.name}`", (item,)), attempt)
    return graph[0]


def _counter(ctx: Context, key: Leaf) -> Callable[[], Bound]:
    """Gives a fresh key for each draw: the key folded with the number of the draw."""
    count = 0

    def fresh() -> Bound:
        nonlocal count
        count += 1
        return Leaf(ctx.g.fold(key.value, ctx.g.number(count - 1)))

    return fresh


def initial(ctx: Context, type_: Type, span: Span, words: str) -> Bound:
    """The initial value of a type, from the defaults of its records."""
    if isinstance(type_, Record):
        if type_.axes:
            return _many(ctx, type_, words)
        return _record(ctx, type_, words)
    if isinstance(type_, Tuple):
        items = enumerate(type_.items)
        return TupleValue(tuple(initial(ctx, item, span, f"{words}.{at}") for at, item in items))
    note = "give it a default: `w: f32[i, o] = he_normal()`"
    raise ScopeError.at(span, f"`{words}` has no initial value", "none is given", note=note)


def _record(ctx: Context, type_: Record, words: str) -> Bound:
    maker = maker_of(ctx, type_)
    names = generic_names(maker.declaration.generics, type_.arguments)
    fields: dict[str, Bound] = {}
    for field, (name, inner) in zip(maker.declaration.fields, type_.fields, strict=True):
        if field.default is None:
            fields[name] = initial(ctx, inner, field.span, f"{words}.{name}")
            continue
        with ctx.within(maker.module, dict(names)):
            value = ctx.evaluate(field.default)
        fields[name] = coerce(ctx, value, inner, field.default.span, declared=field.type.span, widen=True)
    return RecordValue(maker.declaration, type_.arguments, (), fields)


def _many(ctx: Context, type_: Record, words: str) -> Bound:
    """An array of records: each entry draws on its own."""
    ambient = ctx.ambient_key
    if ambient is None:
        raise TypeMismatch.at(ctx.g.span, "there is no key here")
    root = ambient()
    assert isinstance(root, Leaf)
    extent, rest = type_.axes[0], type_.axes[1:]
    entry = Record(type_.name, type_.fields, type_.arguments, rest)
    span = ctx.g.span
    over = t.Over(span, "entry", None)

    def body() -> Bound:
        at = ctx.names["entry"].value
        assert isinstance(at, Leaf)
        ctx.ambient_key = _counter(ctx, Leaf(ctx.g.fold(root.value, at.value)))
        return initial(ctx, entry, span, words)

    try:
        with ctx.local():
            ctx.names.pop("entry", None)
            return space_of(ctx, [Index("entry", span, over, extent)], body, span)
    finally:
        ctx.ambient_key = ambient
