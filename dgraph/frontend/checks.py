"""Checking a program: every declaration and every function on its own, up to ten independent faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from dgraph.errors import DgraphError, Diagnostic, NotDifferentiable, ScopeError
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import GENERIC_KINDS, generic_names, resolve
from dgraph.frontend.annotations import check_annotations, fact
from dgraph.frontend.calls import is_size
from dgraph.frontend.context import Context, framed
from dgraph.frontend.derivative_rules import check_rule
from dgraph.frontend.entry import Derived, Target, deep, lower_function
from dgraph.frontend.initialisers import lower_initialiser
from dgraph.frontend.listing import ON_FUNCTIONS
from dgraph.frontend.modules import Module, require_distinct, unknown
from dgraph.frontend.stored import stored_of
from dgraph.frontend.values import Annotated, Binding, Closure, Extent
from dgraph.sizes import variable
from dgraph.types import F64, I32, Function, Type, leaves

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
    """What is checked, in the order of the text, so that the first faults are those that are told."""
    for item in module.declared():
        if not isinstance(item, t.Stored | t.Constant):
            yield partial(_generics, item)
        if isinstance(item, t.Record):
            yield partial(_record, module, item)
        elif isinstance(item, t.Constant):
            yield partial(_constant, module, item)
        elif isinstance(item, t.Stored):
            yield partial(lower_initialiser, module, item.name)
        elif isinstance(item, t.Function):
            yield partial(check_annotations, item.annotations, "a function", ON_FUNCTIONS)
            yield partial(_trained, module, item)
            yield partial(check_rule, module, item)
            yield partial(_function, module, item)


def _trained(module: Module, function: t.Function) -> None:
    """The names in a `@train`: the optimiser's two functions with its options, and the params."""
    for annotation in function.annotations:
        for keyword in annotation.keywords if annotation.name == "train" else ():
            value = fact(keyword.value)
            if keyword.name == "optimiser" and isinstance(value, Annotated):
                _optimiser(module, keyword, value)
            names = value if isinstance(value, tuple) else (value,)
            for item in names if keyword.name == "wrt" else ():
                if isinstance(item, Annotated) and item.name not in module.stored:
                    title = f"there is no param `{item.name}`"
                    note = f"the program has {', '.join(f'`{name}`' for name in module.stored) or 'no params'}"
                    raise unknown(keyword.value.span, title, item.name, list(module.stored), note)


def _optimiser(module: Module, keyword: t.Keyword, value: Annotated) -> None:
    found = []
    for name in (value.name, f"{value.name}_start"):
        entry = module.lookup(name)
        if entry is None or not isinstance(entry.item, t.Function):
            note = "an optimiser is two functions: `NAME_start(p)` and `NAME(p, slope, s, rate=...)`"
            raise ScopeError.at(keyword.value.span, f"there is no function `{name}`", "the optimiser", note=note)
        found.append(entry.item)
    options = [formal.name for formal in found[0].formals[3:]]
    for option in value.keywords:
        if option not in options:
            title = f"the optimiser `{value.name}` has no option `{option}`"
            raise unknown(keyword.value.span, title, option, options, f"it has {', '.join(options) or 'none'}")


def _generics(item: t.Record | t.TypeAlias | t.Function) -> None:
    for generic in item.generics:
        if generic.kind not in GENERIC_KINDS:
            note = "a generic is a size `n`, a shape `*s`, `T: float`, `T: int`, `T: number` or `P: record`"
            raise unknown(generic.span, f"`{generic.kind}` is no kind", generic.kind, list(GENERIC_KINDS), note)
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
    """Lower a function on its own, with stand-ins for generics in dtypes and shapes; one with a rule as `jvp` sees
    it."""
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
    target: Target = function.name
    rule = module.rule_of(function)
    if rule is not None:
        holds_floats = any(array.dtype.is_float for type_ in types.values() for _, array in leaves(type_))
        if not holds_floats and not stored_of(Closure(function, module)):
            also = [(function.name_span, "the function")]
            title = f"`{function.name}` takes no floats, so it has no derivative"
            raise NotDifferentiable.at(rule.name_span, title, "its rule", also=also, note="leave the rule out")
        target = Derived("jvp", target)
    lower_function(module, target, types=types if is_generic else None)
