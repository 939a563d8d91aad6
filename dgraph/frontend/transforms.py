"""Derivatives and batching in the language: functions from function to function.

All are written with three nodes, `jvp`, `vjp` and `vmap`, whose region is the function lowered for its arguments:
a gradient is a `vjp` seeded with 1, `hvp` the tangent of a gradient, a Jacobian a `vmap` over a basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from dgraph.errors import NotDifferentiable, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.calls import (
    SYNTACTIC,
    Assigned,
    FormalOf,
    as_function,
    assign,
    extra_names,
    formals_of,
    overridden,
    readable,
)
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Arguments, Context, builtin, invokes
from dgraph.frontend.modules import unknown
from dgraph.frontend.numbers import counted
from dgraph.frontend.stored import root, stored_by_name, stored_of
from dgraph.frontend.tracing import RULES, Traced, function_words, prepared, run, trace
from dgraph.frontend.values import (
    Binding,
    Bound,
    FunctionValue,
    Leaf,
    Transformed,
    TupleValue,
    describe,
    leaves_of,
    map_bound,
    rebuild,
    type_of,
)
from dgraph.ir.graph import Value
from dgraph.ops.transform import Jvp, Vjp
from dgraph.types import Array

TRANSFORMS = ("grad", "value_and_grad", "jvp", "vjp", "jacobian", "hessian", "hvp", "vmap")
MODES = {
    "grad": ("auto", "forward", "reverse"),
    "value_and_grad": ("auto", "forward", "reverse"),
    "jacobian": ("auto", "forward", "reverse", "sparse"),
    "hessian": ("auto", "forward", "reverse", "sparse"),
}
NOT_FLOATS = ("i32", "i64", "u8", "bool", "key", "size")


# ---- making transformed functions -----------------------------------------------------------------------------------


def make_transform(
    kind: str, function: FunctionValue, wrt: Sequence[str | int] | None, is_tuple: bool, mode: str, span: Span
) -> Transformed:
    """A transformed function; `wrt` names formals, params or states, or gives positions."""
    if mode not in MODES.get(kind, ("auto",)):
        known = ", ".join(f'"{known}"' for known in MODES.get(kind, ("auto",)))
        raise TypeMismatch.at(span, f'`{kind}` has no mode "{mode}"', note=f"its modes are {known}")
    formals = formals_of(function)
    if wrt is None:
        names: tuple[str, ...] = (_first_float(kind, function, formals, span),)
    else:
        names = tuple(_formal_name(function, formals, part, span) for part in wrt)
    for at, name in enumerate(names):
        if name in names[:at]:
            raise TypeMismatch.at(span, f"`{name}` is named twice", "name each formal once")
    return Transformed(kind, function, names, is_tuple, mode, span)


def _first_float(kind: str, function: FunctionValue, formals: Sequence[FormalOf], span: Span) -> str:
    """The first formal that holds floats; a param that the function reads is a formal behind the others."""
    for formal in formals:
        written = formal.written
        if isinstance(written, t.TypeFunction):
            continue
        if isinstance(written, t.TypeName) and written.path[0] in NOT_FLOATS:
            continue
        if isinstance(written, t.TypeName) and _is_alias_of_function(function, written):
            continue
        return formal.name
    if kind != "vmap":
        for item in stored_of(function):
            if item.kind == "param":
                return item.name
    note = "a derivative is one with respect to a formal or a param that holds floats"
    if kind == "vmap":
        others = [formal.name for formal in formals if not isinstance(formal.written, t.TypeFunction)]
        note = f"say what to map over: `over={others[0]}`" if others else "there is nothing to map over"
    raise TypeMismatch.at(span, f"{function.words} has no float formal", note=note)


def _is_alias_of_function(function: FunctionValue, written: t.TypeName) -> bool:
    entry = root(function).module.lookup(written.path[0])
    item = entry.item if entry is not None else None
    return isinstance(item, t.TypeAlias) and isinstance(item.type, t.TypeFunction)


def _formal_name(function: FunctionValue, formals: Sequence[FormalOf], part: str | int, span: Span) -> str:
    names = [formal.name for formal in formals]
    if isinstance(part, int):
        if not 0 <= part < len(names):
            title = f"{function.words} has {counted(len(names), 'formal')}"
            raise TypeMismatch.at(span, title, f"no position {part}", note="positions are counted from 0")
        return names[part]
    if part in names:
        return part
    return readable(function, part, span).name


def _written(word: str) -> Callable[[Context, t.Call], Bound]:
    """The rule of a transform: `wrt=` and `over=` are names of formals, not values."""

    def rule(ctx: Context, node: t.Call) -> Bound:
        if len(node.arguments) != 1:
            place = node.arguments[1].span if len(node.arguments) > 1 else node.span
            note = f"`{word}(f)(x)`: first the function, then its arguments"
            said = "not the function" if len(node.arguments) > 1 else ""
            raise TypeMismatch.at(place, f"`{word}` takes one function", said, note=note)
        function = as_function(ctx, ctx.evaluate(node.arguments[0]), node.arguments[0].span)
        names: Sequence[str | int] | None = None
        is_tuple, mode, place = False, "auto", node.span
        option = "over" if word == "vmap" else "wrt"
        for keyword in node.keywords:
            if keyword.name == option:
                names, is_tuple, place = *_names(keyword.value), keyword.value.span
            elif keyword.name == "mode" and isinstance(keyword.value, t.String):
                mode = keyword.value.value
            else:
                title = f"`{word}` has no option `{keyword.name}`"
                raise unknown(keyword.span, title, keyword.name, [option, "mode"], f"it takes `{option}` and `mode`")
        return make_transform(word, function, names, is_tuple, mode, place)

    return rule


def _names(node: t.Expression) -> tuple[list[str | int], bool]:
    if isinstance(node, t.Tuple):
        return [name for item in node.items for name in _names(item)[0]], True
    if isinstance(node, t.Name):
        return [node.name], False
    if isinstance(node, t.Number) and isinstance(node.value, int):
        return [node.value], False
    note = "`wrt` and `over` name formals of the function: `wrt=x`, `wrt=(x, w)`, `wrt=0`"
    raise TypeMismatch.at(node.span, "the name of a formal is wanted here", note=note)


def _unreachable(_: Context, arguments: Arguments) -> Bound:
    raise TypeMismatch.at(arguments.span, "a transform is applied to a function where it is written")


for _word in TRANSFORMS:
    builtin(_word)(_unreachable)
    SYNTACTIC[_word] = _written(_word)


# ---- running transformed functions ----------------------------------------------------------------------------------


@invokes(Transformed)
def invoke_transformed(ctx: Context, function: Transformed, arguments: Arguments) -> Bound:
    """A transformed function applied."""
    assigned: Assigned = assign(ctx, function, arguments)
    with overridden(ctx, function, assigned.overrides):
        return run(ctx, function, assigned.values, arguments.span)


def _split_extras(function: Transformed, values: Mapping[str, Binding]) -> tuple[dict[str, Binding], list[Binding]]:
    extras = extra_names(function)
    return {name: held for name, held in values.items() if name not in extras}, [values[name] for name in extras]


def value_of(ctx: Context, values: Mapping[str, Binding], function: FunctionValue, name: str) -> Bound:
    """The argument, param or state that a name of `wrt` means."""
    if name in values:
        return values[name].value
    item = stored_by_name(root(function).module, name)
    assert item is not None
    if item not in ctx.stored:
        title = f"the {item.kind} `{name}` cannot be read here"
        place = function.span if isinstance(function, Transformed) else ctx.g.span
        raise ScopeError.at(place, title, "has no value yet", note="read it inside a function")
    return ctx.stored[item]


def _results(names: Sequence[str], slopes: Sequence[Bound], is_tuple: bool) -> Bound:
    return TupleValue(tuple(slopes)) if is_tuple or len(names) > 1 else slopes[0]


def _reverse(
    ctx: Context,
    function: Transformed,
    values: Mapping[str, Binding],
    span: Span,
    seeds: Callable[[Traced], list[Value | None]],
) -> tuple[Bound, list[Bound]]:
    """A `vjp` node: the function's value and, per name of `wrt`, its cotangents."""
    values = prepared(ctx, function.function, values, function.wrt)
    _require_floats(ctx, function, values)
    traced = trace(ctx, function.function, values, function.wrt, span)
    given = seeds(traced)
    captured = len(traced.operands) - len(traced.names)
    inputs = traced.region.inputs
    wrt = tuple(_is_float(inputs[at]) for at in range(len(traced.names))) + (False,) * captured
    op = Vjp(function=function_words(function), wrt=wrt, seeded=tuple(seed is not None for seed in given))
    seeded = [seed for seed in given if seed is not None]
    with ctx.g.at(span=span):
        results = ctx.g.apply(op, *traced.operands, *seeded, regions=[traced.region])
    outputs = iter([replace(leaf, value=value) for leaf, value in zip(traced.outputs, results, strict=False)])
    value = rebuild(traced.result, outputs)
    found = iter(results[len(traced.outputs) :])
    slopes = [_in_place_of(value_of(ctx, values, function, name), found) for name in function.wrt]
    return value, slopes


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Array) and value.type.dtype.is_float


def _in_place_of(primal: Bound, found: Iterator[Value]) -> Bound:
    """The tree of a value with its float leaves replaced; the others ride along."""

    def one(held: Bound) -> Bound:
        if isinstance(held, Leaf) and held.dtype.is_float:
            return Leaf(next(found), held.weak)
        return held

    return map_bound(primal, one)


def _require_floats(ctx: Context, function: Transformed, values: Mapping[str, Binding]) -> None:
    for name in function.wrt:
        held = value_of(ctx, values, function, name)
        if not _holds_floats(held):
            floats = [other for other, binding in values.items() if _holds_floats(binding.value)]
            raise NotDifferentiable.at(
                function.span,
                f"{function.words} is with respect to `{name}`, which holds no floats",
                f"`{name}` is {describe(held)}",
                note=f"name a float formal: `wrt={floats[0]}`" if floats else "name a formal that holds floats",
            )


def _holds_floats(value: Bound) -> bool:
    return any(isinstance(leaf, Leaf) and leaf.dtype.is_float for _, leaf in leaves_of(value))


def require_scalar(function: Transformed, result: Bound, outputs: Sequence[Leaf], span: Span) -> Leaf:
    """The scalar float that a gradient is of: the result, or the first entry of a tuple."""
    head = result.items[0] if isinstance(result, TupleValue) and result.items else result
    if not outputs or head is not outputs[0] or outputs[0].shape or not outputs[0].dtype.is_float:
        raise NotDifferentiable.at(
            span,
            f"{function.words} needs a function with a scalar float result",
            f"it gives {describe(result)}",
            also=[(_declared(function), "declared here")],
            note="use `jacobian` or `vjp`, or return the scalar first in a tuple",
        )
    return outputs[0]


def _gradient(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> tuple[Bound, Bound]:
    """The function's value and its gradient."""
    if function.mode == "forward":
        both = RULES["forward gradient"](ctx, function, values, span)
        assert isinstance(both, TupleValue)
        return both.items[0], both.items[1]

    def seeds(traced: Traced) -> list[Value | None]:
        first = require_scalar(function, traced.result, traced.outputs, span)
        return [ctx.g.constant(1.0, first.dtype), *(None for _ in traced.outputs[1:])]

    value, slopes = _reverse(ctx, function, values, span, seeds)
    return value, _results(function.wrt, slopes, function.is_tuple)


def _declared(function: Transformed) -> Span:
    held = root(function).function
    return held.name_span if isinstance(held, t.Function) else held.span


def _grad(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    value, slope = _gradient(ctx, function, values, span)
    return TupleValue((slope, *value.items[1:])) if isinstance(value, TupleValue) else slope


def _slope(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    """The gradient alone, whatever else the function returns: what `hvp` and `hessian` differentiate."""
    return _gradient(ctx, function, values, span)[1]


def _value_and_grad(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    return TupleValue(_gradient(ctx, function, values, span))


def _vjp(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    own, (cotangent,) = _split_extras(function, values)

    def seeds(traced: Traced) -> list[Value | None]:
        wanted = type_of(traced.result)
        assert wanted is not None
        given = coerce(ctx, cotangent.value, wanted, cotangent.span)
        leaves = [leaf for _, leaf in leaves_of(given) if isinstance(leaf, Leaf)]
        return [leaf.value if leaf.dtype.is_float else None for leaf in leaves]

    _, slopes = _reverse(ctx, function, own, span, seeds)
    return _results(function.wrt, slopes, function.is_tuple)


def forward(
    ctx: Context, function: Transformed, values: Mapping[str, Binding], tangents: Sequence[Binding], span: Span
) -> tuple[Bound, Bound]:
    """A `jvp` node: the function's value and its tangent."""
    values = prepared(ctx, function.function, values, function.wrt)
    _require_floats(ctx, function, values)
    traced = trace(ctx, function.function, values, function.wrt, span)
    given: list[Value] = []
    for name, tangent in zip(function.wrt, tangents, strict=True):
        wanted = type_of(value_of(ctx, values, function, name))
        assert wanted is not None
        held = coerce(ctx, tangent.value, wanted, tangent.span)
        given += [leaf.value for _, leaf in leaves_of(held) if isinstance(leaf, Leaf) and leaf.dtype.is_float]
    captured = len(traced.operands) - len(traced.names)
    inputs = traced.region.inputs
    active = tuple(_is_float(inputs[at]) for at in range(len(traced.names))) + (False,) * captured
    op = Jvp(function=function_words(function), active=active)
    with ctx.g.at(span=span):
        results = ctx.g.apply(op, *traced.operands, *given, regions=[traced.region])
    outputs = [replace(leaf, value=value) for leaf, value in zip(traced.outputs, results, strict=False)]
    value = rebuild(traced.result, iter(outputs))
    return value, _in_place_of(value, iter(results[len(outputs) :]))


def _jvp(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    own, tangents = _split_extras(function, values)
    return TupleValue(forward(ctx, function, own, tangents, span))


def _hvp(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    own, tangents = _split_extras(function, values)
    slope = replace(function, kind="slope", mode="auto")
    return forward(ctx, replace(function, kind="jvp", function=slope), own, tangents, span)[1]


RULES.update(
    {
        "grad": _grad,
        "slope": _slope,
        "value_and_grad": _value_and_grad,
        "jvp": _jvp,
        "vjp": _vjp,
        "hvp": _hvp,
    }
)
