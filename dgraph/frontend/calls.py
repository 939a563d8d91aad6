"""Applying functions: arguments to formals, generics from arguments, a `call` node for every function applied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import Solver, resolve
from dgraph.frontend.coercion import coerce, value_of_type
from dgraph.frontend.context import Arguments, Context, Frame, evaluates, frame_loop, invokes
from dgraph.frontend.equalities import as_declared
from dgraph.frontend.memo import Instance, Key, captured_values, identity_of, key_of, stored_leaves
from dgraph.frontend.modules import require_distinct, unknown
from dgraph.frontend.numbers import counted
from dgraph.frontend.stored import root, stored_by_name, stored_of, times_mapped
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    Closure,
    Extent,
    FunctionValue,
    Leaf,
    Pending,
    Transformed,
    describe,
    leaves_of,
    map_bound,
    type_of,
)
from dgraph.ir.graph import Region, Value
from dgraph.types import Type, leaves, with_axes


@dataclass(frozen=True)
class FormalOf:
    """One formal of a function value."""

    name: str
    span: Span
    written: t.TypeExpression | None = None
    default: t.Expression | None = None


@dataclass(frozen=True)
class Assigned:
    """Arguments by the names of formals; `defaults` names those that the caller left out; `overrides` are params and
    states given by keyword."""

    values: Mapping[str, Binding]
    defaults: frozenset[str]
    overrides: Mapping[t.Stored, Binding]


# ---- formals --------------------------------------------------------------------------------------------------------


def own_formals(closure: Closure) -> list[FormalOf]:
    """The formals of a `def` or `lambda`."""
    function = closure.function
    if isinstance(function, t.Lambda):
        return [FormalOf(word.name, word.span) for word in function.formals]
    return [FormalOf(formal.name, formal.span, formal.type, formal.default) for formal in function.formals]


def formals_of(function: FunctionValue) -> list[FormalOf]:
    """The formals of any function value; transforms keep those of their function and append their own."""
    if isinstance(function, Closure):
        return own_formals(function)
    inner = formals_of(function.function)
    taken = {formal.name for formal in inner}
    extra: list[str] = []
    if function.kind == "jvp":
        extra = [f"d{name}" for name in function.wrt]
    elif function.kind == "hvp":
        extra = ["v"] if len(function.wrt) == 1 else [f"v_{name}" for name in function.wrt]
    elif function.kind == "vjp":
        extra = ["ct"]
    return [*inner, *(FormalOf(_fresh(name, taken), function.span) for name in extra)]


def _fresh(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def extra_names(function: Transformed) -> list[str]:
    """The names of the formals that a transform appends."""
    return [formal.name for formal in formals_of(function)[len(formals_of(function.function)) :]]


def as_function(ctx: Context, value: Bound, span: Span) -> FunctionValue:
    """A value as a function that can be transformed; one of the language is wrapped into a lambda."""
    if isinstance(value, Closure | Transformed):
        return value
    if isinstance(value, Builtin):
        word = t.Word(span, "x")
        body = t.Call(span, t.Name(span, value.name), (t.Name(span, "x"),), ())
        return Closure(t.Lambda(span, (word,), body), ctx.module, {})
    note = "name a function, or write one: `lambda x: x ** 2`"
    raise TypeMismatch.at(span, "a function is wanted here", f"this is {describe(value)}", note=note)


# ---- arguments to formals -------------------------------------------------------------------------------------------


def assign(ctx: Context, function: FunctionValue, arguments: Arguments) -> Assigned:
    """Arguments by formal names."""
    formals = formals_of(function)
    names = [formal.name for formal in formals]
    if len(arguments.positional) > len(formals):
        surplus = arguments.positional[len(formals)]
        raise TypeMismatch.at(
            surplus.span,
            f"{function.words} takes {counted(len(formals), 'argument')}, not {len(arguments.positional)}",
            "one too many",
            also=[(_place(function), f"takes {', '.join(names) or 'nothing'}")],
        )
    values = dict(zip(names, arguments.positional, strict=False))
    overrides: dict[t.Stored, Binding] = {}
    for name, binding in arguments.keywords.items():
        if name in values:
            also = [(values[name].span, "first here")]
            raise TypeMismatch.at(binding.span, f"`{name}` is given twice", "again here", also=also)
        if name in names:
            values[name] = binding
            continue
        overrides[readable(function, name, binding.span)] = binding
    defaults = set()
    for formal in formals:
        if formal.name in values:
            continue
        if formal.default is not None:
            values[formal.name] = Binding(_default(ctx, function, formal), formal.default.span)
            defaults.add(formal.name)
        elif ctx.ambient_key is not None and _is_key(formal):
            values[formal.name] = Binding(ctx.ambient_key(), formal.span)
        else:
            raise TypeMismatch.at(
                arguments.span,
                f"{function.words} needs an argument `{formal.name}`",
                "not given here",
                also=[(formal.span, "the formal")],
            )
    return Assigned({name: values[name] for name in names}, frozenset(defaults), overrides)


def readable(function: FunctionValue, name: str, span: Span) -> t.Stored:
    """The param or state of a name, an implicit keyword formal of every function that reads it."""
    stored = stored_by_name(root(function).module, name)
    if stored is None:
        known = [f.name for f in formals_of(function)]
        note = f"its formals are {', '.join(known) or 'none'}"
        raise unknown(span, f"{function.words} has no formal `{name}`", name, known, note)
    takes_functions = any(isinstance(formal.written, t.TypeFunction) for formal in own_formals(root(function)))
    if stored not in stored_of(function) and not takes_functions:
        title, also = f"{function.words} does not read the {stored.kind} `{name}`", [(stored.span, "declared here")]
        raise ScopeError.at(span, title, "would change nothing", also=also, note="leave it out")
    return stored


def _place(function: FunctionValue) -> Span:
    held = root(function).function
    return held.name_span if isinstance(held, t.Function) else held.span


def _is_key(formal: FormalOf) -> bool:
    return isinstance(formal.written, t.TypeName) and formal.written.path == ("key",) and formal.written.dims is None


def _default(ctx: Context, function: FunctionValue, formal: FormalOf) -> Bound:
    closure = root(function)
    assert formal.default is not None
    with ctx.within(closure.module, dict(closure.names or {})):
        return ctx.evaluate(formal.default)


@contextmanager
def overridden(ctx: Context, function: FunctionValue, overrides: Mapping[t.Stored, Binding]) -> Iterator[None]:
    """Params and states take other values inside; those that the function is mapped over have an axis more."""
    before = ctx.stored
    changed = dict(before)
    for stored, binding in overrides.items():
        held = before.get(stored)
        if held is None:
            title = f"the {stored.kind} `{stored.name}` cannot be given here"
            note = "give it where the function that reads it is named"
            raise ScopeError.at(binding.span, title, "has no value here", note=note)
        changed[stored] = like(ctx, held, binding, times_mapped(function, stored.name))
    ctx.stored = changed
    try:
        yield
    finally:
        ctx.stored = before


def like(ctx: Context, held: Bound, binding: Binding, axes: int = 0) -> Bound:
    """A value brought to the type of another one, with the first axes of its own in front."""
    wanted, given = type_of(held), type_of(binding.value)
    if wanted is None:
        return binding.value
    if axes and given is not None:
        outer = next((array.shape for _, array in leaves(given)), ())
        wanted = with_axes(wanted, outer[:axes])
    return coerce(ctx, binding.value, wanted, binding.span)


# ---- applying -------------------------------------------------------------------------------------------------------


@evaluates(t.Call)
def call(ctx: Context, node: t.Call) -> Bound:
    """`f(x, axis=1)`."""
    function = ctx.evaluate(node.function)
    if isinstance(function, Builtin) and function.name in SYNTACTIC:
        return SYNTACTIC[function.name](ctx, node)
    positional = [Binding(ctx.evaluate(argument), argument.span) for argument in node.arguments]
    keywords = {word.name: Binding(ctx.evaluate(word.value), word.value.span) for word in node.keywords}
    with ctx.step(node):
        return ctx.invoke(function, Arguments(positional, keywords, node.span))


SYNTACTIC: dict[str, Callable[[Context, t.Call], Bound]] = {}
"""Functions of the language that look at how their arguments are written: transforms take names of formals."""


@invokes(Closure)
def invoke_closure(ctx: Context, closure: Closure, arguments: Arguments) -> Bound:
    """A `def` or `lambda` applied."""
    assigned = assign(ctx, closure, arguments)
    with overridden(ctx, closure, assigned.overrides):
        return apply(ctx, closure, assigned.values, arguments.span, assigned.defaults)


def apply(
    ctx: Context,
    closure: Closure,
    values: Mapping[str, Binding],
    span: Span,
    defaults: frozenset[str] = frozenset(),
) -> Bound:
    """A function applied to arguments by name."""
    function = closure.function
    if isinstance(function, t.Lambda):
        with ctx.within(closure.module, {**(closure.names or {}), **values}):
            return ctx.evaluate(function.body)
    solver = solve_generics(ctx, closure, values)
    missing = solver.unsolved
    if missing:
        written = function.result
        used = {node.name for node in t.walk(written) if isinstance(node, t.Name | t.Splice)} if written else set()
        used |= {node.path[0] for node in t.walk(written) if isinstance(node, t.TypeName)} if written else set()
        if written is None or any(name not in used for name in missing):
            raise _unsolved(closure, missing[0], span, values)
        wanted = written

        def make(type_: Type, place: Span) -> Bound:
            solver.match(wanted, type_)
            if solver.unsolved:
                raise _unsolved(closure, solver.unsolved[0], place, values)
            return _apply_solved(ctx, closure, function, values, solver, span, defaults)

        return Pending(function.name, span, make)
    return _apply_solved(ctx, closure, function, values, solver, span, defaults)


KINDS_IN_WORDS = {"float": "a float", "int": "an integer", "number": "a number", "record": "a record"}


def _unsolved(closure: Closure, name: str, span: Span, values: Mapping[str, Binding]) -> TypeMismatch:
    function = closure.function
    assert isinstance(function, t.Function)
    kind = next(generic.kind for generic in function.generics if generic.name == name)
    for formal in function.formals:
        written, held = formal.type, values[formal.name]
        if kind in KINDS_IN_WORDS and isinstance(written, t.TypeName) and written.path == (name,):
            wanted = KINDS_IN_WORDS[kind] if written.dims is None else formal.type.span.text
            title = f"{wanted} is wanted here"
            also = [(formal.span, f"declared here, with `{name}: {kind}`")]
            return TypeMismatch.at(held.span, title, f"this is {describe(held.value)}", also=also)
    return TypeMismatch.at(
        span,
        f"the size `{name}` of {closure.words} cannot be found",
        "from these arguments",
        also=[(_place(closure), "declared here")],
        note="each size must follow from the argument types, or from the type that the result meets",
    )


def solve_generics(ctx: Context, closure: Closure, values: Mapping[str, Binding]) -> Solver:
    """The generics of a function from its arguments."""
    function = closure.function
    assert isinstance(function, t.Function)
    solver = Solver(ctx, closure.module, function.generics, closure.names or {})
    for formal in function.formals:
        if is_size(formal.type) and isinstance(values[formal.name].value, Extent):
            solver.names[formal.name] = values[formal.name]
        elif is_size(formal.type):
            held = values[formal.name]
            with ctx.within(closure.module, solver.names):
                wanted = resolve(ctx, formal.type)
            made = coerce(ctx, held.value, wanted, held.span, declared=formal.span)
            solver.names[formal.name] = Binding(made, held.span)
    pairs = [(formal.type, values[formal.name].value) for formal in function.formals]
    solver.run(pairs)
    solver.leave_free(pairs, function)
    return solver


def is_size(written: t.TypeExpression) -> bool:
    """Whether a formal is of type `size`."""
    return isinstance(written, t.TypeName) and written.path == ("size",)


def brought(
    ctx: Context,
    closure: Closure,
    values: Mapping[str, Binding],
    solver: Solver,
    defaults: frozenset[str] = frozenset(),
) -> dict[str, Binding]:
    """Arguments brought to the types of their formals."""
    function = closure.function
    assert isinstance(function, t.Function)
    out: dict[str, Binding] = {}
    for formal in function.formals:
        held = values[formal.name]
        if solver.is_free(formal.type):
            out[formal.name] = Binding(held.value, formal.span)
            continue
        with ctx.within(closure.module, solver.names):
            wanted = resolve(ctx, formal.type)
        made = coerce(ctx, held.value, wanted, held.span, declared=formal.type.span, widen=formal.name in defaults)
        out[formal.name] = Binding(made, formal.span)
    return out


def _apply_solved(
    ctx: Context,
    closure: Closure,
    function: t.Function,
    values: Mapping[str, Binding],
    solver: Solver,
    span: Span,
    defaults: frozenset[str],
) -> Bound:
    given = brought(ctx, closure, values, solver, defaults)
    if ctx.reads is not None and function.result is not None and not _returns_function(function.result):
        with ctx.within(closure.module, solver.names):
            wanted = resolve(ctx, function.result)
        probe = ctx.probe
        assert probe is not None
        return value_of_type(ctx, wanted, lambda name, type_: Leaf(probe.input(type_, name)))
    ctx.g.span = span
    if closure.module.rule_of(function) is not None:
        made = APPLIED["custom"](ctx, closure, given, solver.names)
        if made is not None:
            return solver.loosened(made, function.result)
    known = _again(ctx, closure, given, solver.names)
    if known is not None:
        return solver.loosened(known, function.result)
    frame = Frame(closure.words, identity_of(function, given))
    is_inline = function.result is not None and _returns_function(function.result)

    def lower() -> Bound:
        if is_inline:
            return body_value(ctx, closure, function, {**solver.names, **given})
        return _call_node(ctx, closure, function, given, solver.names)

    return solver.loosened(frame_loop(ctx, frame, lower), function.result)


APPLIED: dict[str, Callable[[Context, Closure, Mapping[str, Binding], Mapping[str, Binding]], Bound | None]] = {}
"""How a function becomes another node than a `call`, filled by the file that holds it; None if it need not."""


def _returns_function(written: t.TypeExpression) -> bool:
    return any(isinstance(node, t.TypeFunction) for node in t.walk(written))


def _call_node(
    ctx: Context, closure: Closure, function: t.Function, given: Mapping[str, Binding], names: Mapping[str, Binding]
) -> Bound:
    """The body as the region of a `call` node."""
    outer = ctx.g
    child = outer.child()
    operands: list[Value] = []

    def enter(held: Bound, name: str) -> Bound:
        if not isinstance(held, Leaf):
            return held
        operands.append(held.value)
        entry = child.input(held.type, name)
        ctx.origins[entry] = held.value
        return replace(held, value=entry)

    inner = {name: Binding(entered(binding.value, name, enter), binding.span) for name, binding in given.items()}
    computed = ctx.computed
    with ctx.region(child):
        result = body_value(ctx, closure, function, {**names, **inner})
    if any(isinstance(part, Closure | Transformed) for _, part in leaves_of(result)):
        return body_value(ctx, closure, function, {**names, **given})
    outputs = [leaf for _, leaf in leaves_of(result) if isinstance(leaf, Leaf)]
    region = child.close([leaf.value for leaf in outputs])
    if ctx.computed == computed:
        _remember(ctx, key_of(ctx, closure, given, names), region, result, list(child.captures))
    return _returned_leaves(result, outer.call(function.name, [*operands, *child.captures], region))


def _remember(ctx: Context, key: Key | None, region: Region, result: Bound, captures: list[Value]) -> None:
    """Keep an instance that captures nothing but params and states."""
    origins = stored_leaves(ctx) if captures else {}
    if key is not None and all(value in origins for value in captures):
        ctx.instances[key] = Instance(region, result, tuple(origins[value] for value in captures))


def _again(ctx: Context, closure: Closure, given: Mapping[str, Binding], names: Mapping[str, Binding]) -> Bound | None:
    """A `call` of an instance met before."""
    key = key_of(ctx, closure, given, names)
    instance = None if key is None else ctx.instances.get(key)
    if instance is None:
        return None
    assert isinstance(closure.function, t.Function)
    arguments = [leaf for binding in given.values() for _, leaf in leaves_of(binding.value)]
    operands = [leaf.value for leaf in arguments if isinstance(leaf, Leaf)]
    results = ctx.g.call(closure.function.name, [*operands, *captured_values(ctx, instance)], instance.region)
    return _returned_leaves(instance.result, results)


def _returned_leaves(result: Bound, values: Sequence[Value]) -> Bound:
    """What a function returned, with the results of its `call` node as leaves."""
    found = iter(values)

    def leave(held: Bound) -> Bound:
        return Leaf(next(found), soft=held.soft) if isinstance(held, Leaf) else held

    return map_bound(result, leave)


def entered(value: Bound, name: str, enter: Callable[[Bound, str], Bound]) -> Bound:
    """The same tree with every leaf passed, with its qualified name, to `enter`."""
    names = iter([found for found, _ in leaves_of(value, name)])
    return map_bound(value, lambda held: enter(held, next(names)))


def body_value(ctx: Context, closure: Closure, function: t.Function, names: Mapping[str, Binding]) -> Bound:
    """What the body of a function returns, brought to the declared type."""
    require_distinct([*function.generics, *function.formals])
    with ctx.within(closure.module, dict(names)):
        for formal in function.formals:
            stored = stored_by_name(closure.module, formal.name)
            if stored is not None:
                raise ScopeError.at(
                    formal.span,
                    f"the formal `{formal.name}` hides a {stored.kind}",
                    "has the same name",
                    also=[(stored.span, "declared here")],
                    note="a param is passed by its own name: rename the formal",
                )
        ctx.result = function.result
        value = ctx.evaluate(function.body)
        if function.result is None:
            if isinstance(value, Pending):
                raise TypeMismatch.at(value.span, f"`{value.words}` has no shape here", note="declare the result type")
            return value
        place = _returned(function.body)
        return as_declared(ctx, value, function.result, names, place)


def _returned(body: t.Suite | t.Expression) -> Span:
    """The place that a fault of the result points at."""
    while isinstance(body, t.Suite) and body.statements:
        last = body.statements[-1]
        if isinstance(last, t.Return):
            return last.value.span
        if isinstance(last, t.If) and last.otherwise is not None:
            body = last.arms[0].body
        elif isinstance(last, t.Scope):
            body = last.body
        else:
            return last.span
    return body.span


@evaluates(t.Lambda)
def anonymous(ctx: Context, node: t.Lambda) -> Bound:
    """A `lambda` captures the values of the names around it."""
    seen: dict[str, Span] = {}
    for word in node.formals:
        if word.name in seen:
            also = [(seen[word.name], "first here")]
            raise ScopeError.at(word.span, f"`{word.name}` is a formal twice", "again here", also=also)
        seen[word.name] = word.span
    return Closure(node, ctx.module, dict(ctx.names))
