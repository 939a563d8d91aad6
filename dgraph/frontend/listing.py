"""What a program offers, without lowering anything: functions, params, states, records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dgraph.errors import DgraphError, Span
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import Solver, resolve
from dgraph.frontend.annotations import check_annotations, fact
from dgraph.frontend.context import Context, framed
from dgraph.frontend.modules import Module
from dgraph.frontend.stored import stored_of
from dgraph.frontend.values import Annotated, Binding, Closure, Extent
from dgraph.sizes import variable
from dgraph.types import DType, Type

ON_FUNCTIONS: Mapping[str, tuple[str, ...] | None] = {"entry": (), "metric": (), "train": None}


@dataclass(frozen=True)
class FormalInfo:
    """A formal: its type as written and, where it needs no caller, as a type; its default as a Python value (None if
    there is none or if it is more than a literal)."""

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
        default = formal.default
        known = fact(default) if isinstance(default, t.Number | t.Boolean | t.String | t.Negate) else None
        formals.append(FormalInfo(formal.name, words, type_, known, default is None, formal.span))
    annotations = check_annotations(function.annotations, "a function", ON_FUNCTIONS)
    stored = tuple(item.name for item in stored_of(Closure(function, module)))
    return FunctionInfo(
        function.name, tuple(formals), tuple(sizes), annotations, function.doc, stored, function.name_span
    )


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


def records(module: Module) -> dict[str, RecordInfo]:
    """The records of a file by name, in order."""
    out = {}
    for item in module.declared():
        if isinstance(item, t.Record):
            fields = tuple((field.name, " ".join(field.type.span.text.split())) for field in item.fields)
            generics = tuple(generic.name for generic in item.generics)
            out[item.name] = RecordInfo(item.name, generics, fields, item.doc, item.span)
    return out
