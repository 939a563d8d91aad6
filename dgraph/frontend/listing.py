"""What a program offers, without lowering anything: functions, params, states, records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import DgraphError, NotSupported, Span
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import Solver, record_type, resolve
from dgraph.frontend.annotations import TRAIN, check_annotations
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context, framed
from dgraph.frontend.modules import Module
from dgraph.frontend.stored import stored_of
from dgraph.frontend.values import (
    Annotated,
    Binding,
    Bound,
    Closure,
    Extent,
    Leaf,
    Literal,
    RecordMaker,
    RecordValue,
    TupleValue,
    leaves_of,
)
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph
from dgraph.sizes import Size, variable
from dgraph.types import Array, DType, Function, Record, Tuple, Type
from dgraph.types import Extent as ExtentType
from dgraph.types import leaves as leaves_of_type

ON_FUNCTIONS: Mapping[str, tuple[str, ...] | None] = {
    "entry": (),
    "metric": (),
    "train": tuple(TRAIN),
    "derivative": ("of",),
}


@dataclass(frozen=True)
class FormalInfo:
    """A formal: its type as written and, where it needs no caller, as a type; its default as a Python value (None if
    there is none or if it depends on other arguments)."""

    name: str
    words: str
    type: Type | None
    default: Any
    is_required: bool
    span: Span


@dataclass(frozen=True)
class FunctionInfo:
    """A function of a program. `stored` are the params and states that it reads, its implicit keyword formals."""

    name: str
    formals: tuple[FormalInfo, ...]
    sizes: tuple[str, ...]
    annotations: Mapping[str, Annotated]
    doc: str
    stored: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class StoredInfo:
    """A param or state of a program."""

    name: str
    kind: str
    type: Type
    span: Span


@dataclass(frozen=True)
class RecordInfo:
    """A record of a program: its generics and the names of its fields with their types as written."""

    name: str
    generics: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    doc: str
    span: Span


def functions(module: Module) -> dict[str, FunctionInfo]:
    """The functions of a file by name, in order."""
    return {name: function_info(module, function) for name, function in module.functions.items()}


def function_info(module: Module, function: t.Function) -> FunctionInfo:
    """What a function's declaration says."""
    ctx = Context(module)
    solver = Solver(ctx, module, function.generics, {})
    sizes = []
    for generic in function.generics:
        if generic.kind == "size":
            solver.put(generic.name, Extent(variable(generic.name)))
            sizes.append(generic.name)
    formals = []
    for formal in function.formals:
        if isinstance(formal.type, t.TypeName) and formal.type.path == ("size",):
            solver.names[formal.name] = Binding(Extent(variable(formal.name)), formal.span)
    for formal in function.formals:
        words = " ".join(formal.type.span.text.split())
        type_: Type | None
        try:
            with ctx.within(module, solver.names):
                type_ = framed(ctx, "this type", partial(resolve, ctx, formal.type))
        except DgraphError:
            # Generic in a dtype, a shape or a record; `check` reports it if it is a fault.
            type_ = None
        known = None if formal.default is None else _default(module, formal.default, type_)
        formals.append(FormalInfo(formal.name, words, type_, known, formal.default is None, formal.span))
    annotations = check_annotations(function.annotations, "a function", ON_FUNCTIONS)
    stored = tuple(item.name for item in stored_of(Closure(function, module)))
    return FunctionInfo(
        function.name, tuple(formals), tuple(sizes), annotations, function.doc, stored, function.name_span
    )


def _default(module: Module, node: t.Expression, type_: Type | None) -> Any:
    """The value of a default that is made of constants; None for one that is not."""
    if isinstance(type_, Function):
        return None
    ctx = Context(module)
    ctx.g = Builder()
    ctx.g.span = node.span

    def make() -> Bound:
        value = ctx.evaluate(node)
        is_scalar = isinstance(type_, Array) and not type_.shape
        if type_ is None or isinstance(type_, ExtentType) or (isinstance(value, Literal) and is_scalar):
            return value
        return coerce(ctx, value, type_, node.span, widen=True)

    sizes = () if type_ is None else [extent for _, array in leaves_of_type(type_) for extent in array.shape]
    if any(extent.constant is None for extent in sizes):
        return None
    try:
        value = framed(ctx, "this default", make)
        leaves = [leaf for _, leaf in leaves_of(value) if isinstance(leaf, Leaf)]
        region = ctx.g.close([leaf.value for leaf in leaves])
        results = iter(evaluate(Graph("default", (), (), Tuple(()), region, node.span), (), {}) if leaves else ())
    except (DgraphError, TypeError):
        # It rests on a size or on another argument; a fault in it is reported where the function is checked.
        return None
    return _plain(value, results)


def _plain(value: Bound, results: Iterator[Any]) -> Any:
    """A value as numbers, lists, tuples and mappings; `results` are those of its leaves."""
    if isinstance(value, Literal):
        return value.value
    if isinstance(value, Leaf):
        return next(results).tolist()
    if isinstance(value, TupleValue):
        return tuple([_plain(item, results) for item in value.items])
    if isinstance(value, RecordValue):
        return {name: _plain(held, results) for name, held in value.fields.items()}
    return value.size.constant if isinstance(value, Extent) else None


def stored(module: Module, precision: DType | None = None) -> dict[str, StoredInfo]:
    """The params and states that a program sees, by name, in order."""
    out = {}
    for name, item in module.stored.items():
        owner = module.names[name].module
        ctx = Context(owner, precision)
        out[name] = StoredInfo(
            item.name, item.kind, framed(ctx, "this type", partial(resolve, ctx, item.type)), item.span
        )
    return out


def visible_records(module: Module) -> dict[str, RecordInfo]:
    """The records that a program can name, imported ones included."""
    found = {}
    for name, entry in module.names.items():
        if isinstance(entry.item, t.Record):
            found[name] = _record_info(entry.item)
    return found


def record_named(module: Module, name: str, size_of: Callable[[str], Size]) -> Record:
    """A record type by its name, with a size for each of its sizes. Raises `NotSupported` for other generics."""
    entry = module.names[name]
    item = entry.item
    assert isinstance(item, t.Record)
    for generic in item.generics:
        if generic.kind != "size":
            title = f"the record `{name}` is generic in `{generic.name}`, so its type cannot be told from a value"
            raise NotSupported.at(generic.span, title, note="call the function from one with plain types")
    arguments = tuple(size_of(generic.name) for generic in item.generics)
    ctx = Context(entry.module)
    return framed(ctx, "this type", partial(record_type, ctx, RecordMaker(item, entry.module), arguments))


def records(module: Module) -> dict[str, RecordInfo]:
    """The records of a file by name, in order."""
    return {item.name: _record_info(item) for item in module.declared() if isinstance(item, t.Record)}


def _record_info(item: t.Record) -> RecordInfo:
    fields = tuple((field.name, " ".join(field.type.span.text.split())) for field in item.fields)
    return RecordInfo(item.name, tuple(generic.name for generic in item.generics), fields, item.doc, item.span)
