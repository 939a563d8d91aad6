"""Checking a program: every declaration and every function on its own, up to ten independent faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from dgraph.errors import DgraphError, Diagnostic
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import GENERIC_KINDS, generic_names, resolve
from dgraph.frontend.annotations import check_annotations
from dgraph.frontend.calls import is_size
from dgraph.frontend.context import Context, framed
from dgraph.frontend.entry import deep, lower_function
from dgraph.frontend.initialisers import lower_initialiser
from dgraph.frontend.listing import ON_FUNCTIONS
from dgraph.frontend.modules import Module, require_distinct, unknown
from dgraph.frontend.values import Binding, Extent
from dgraph.sizes import variable
from dgraph.types import F64, I32, Function, Type

MOST = 10


def check(module: Module) -> list[Diagnostic]:
    """The faults of a program in the order of the text; none means that every function could be lowered, except those
    that need a caller (functions of functions and of generic records), which are checked where they are called."""
    found: dict[tuple[object, ...], Diagnostic] = {}
    for task in _tasks(module):
        try:
            with deep():
                task()
        except DgraphError as fault:
            for diagnostic in fault.diagnostics:
                place = diagnostic.labels[0].span if diagnostic.labels else None
                found.setdefault((place, diagnostic.title), diagnostic)
        if len(found) >= MOST:
            break
    return sorted(found.values(), key=_order)[:MOST]


def _order(diagnostic: Diagnostic) -> tuple[str, int]:
    if not diagnostic.labels:
        return "", 0
    span = diagnostic.labels[0].span
    return span.source.path, span.start


def _tasks(module: Module) -> Iterator[Callable[[], object]]:
    """What is checked, declarations first."""
    for item in module.declared():
        if not isinstance(item, t.Stored | t.Constant):
            yield partial(_generics, item)
        if isinstance(item, t.Record):
            yield partial(_record, module, item)
        elif isinstance(item, t.Constant):
            yield partial(_constant, module, item)
        elif isinstance(item, t.Stored):
            yield partial(lower_initialiser, module, item.name)
    for function in module.functions.values():
        yield partial(check_annotations, function.annotations, "a function", ON_FUNCTIONS)
        yield partial(_function, module, function)


def _generics(item: t.Record | t.TypeAlias | t.Function) -> None:
    for generic in item.generics:
        if generic.kind not in GENERIC_KINDS:
            raise unknown(generic.span, f"`{generic.kind}` is no kind", generic.kind, list(GENERIC_KINDS))
    require_distinct([*item.generics, *(item.formals if isinstance(item, t.Function) else ())])
    if isinstance(item, t.Record):
        require_distinct(item.fields)


def assumed(generic: t.Generic) -> object | None:
    """A stand-in for a generic under which a declaration can be checked without a use."""
    if generic.kind == "size":
        return variable(generic.name)
    if generic.kind == "shape":
        return (variable(f"{generic.name}0"),)
    if generic.kind in ("float", "number"):
        return F64
    return I32 if generic.kind == "int" else None


def _record(module: Module, item: t.Record) -> None:
    arguments = [assumed(generic) for generic in item.generics]
    if any(argument is None for argument in arguments):
        return
    ctx = Context(module)
    with ctx.within(module, generic_names(item.generics, arguments)):
        for field in item.fields:
            framed(ctx, "this type", partial(resolve, ctx, field.type))


def _constant(module: Module, item: t.Constant) -> None:
    ctx = Context(module)
    framed(ctx, "this constant", partial(ctx.lookup, item.name, item.span))


def _function(module: Module, function: t.Function) -> None:
    """Lower a function on its own, with stand-ins for generics in dtypes and shapes."""
    arguments = [assumed(generic) for generic in function.generics]
    if any(argument is None for argument in arguments):
        return
    types: dict[str, Type] = {}
    ctx = Context(module)
    names = generic_names(function.generics, arguments)
    for formal in function.formals:
        if is_size(formal.type):
            names[formal.name] = Binding(Extent(variable(formal.name)), formal.span)
    with ctx.within(module, names):
        for formal in function.formals:
            types[formal.name] = framed(ctx, "this type", partial(resolve, ctx, formal.type))
    if any(isinstance(found, Function) for found in types.values()):
        return
    is_generic = any(generic.kind != "size" for generic in function.generics)
    lower_function(module, function.name, types=types if is_generic else None)
