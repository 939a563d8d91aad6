"""`implicit(f, x)`: a value that solves an equation, with the derivative that the equation gives it."""

from __future__ import annotations

import math
from itertools import compress

from dgraph.errors import NotDifferentiable, Span, TypeMismatch
from dgraph.frontend.builtins import take
from dgraph.frontend.calls import as_function, assign, formals_of
from dgraph.frontend.context import Arguments, Context, builtin
from dgraph.frontend.tracing import Traced, function_words, prepared, trace
from dgraph.frontend.values import Binding, Bound, FunctionValue, Leaf, Literal, describe, leaves_of, map_bound
from dgraph.ir.graph import Region
from dgraph.ops.transform import Implicit

EXAMPLE = "`implicit(lambda x: x ** 2 - a, x)`"


@builtin("implicit")
def implicit(ctx: Context, arguments: Arguments) -> Bound:
    """`implicit(f, x)`: x itself, however it was found; its derivatives are those of the solution of f(x) = 0. The run
    stops where one step of Newton's method would move it by more than `tolerance=` relative to 1 plus its size."""
    found = take(arguments, "implicit", ["f", "x", "tolerance"], 2)
    function = as_function(ctx, found["f"].value, found["f"].span)
    name = _unknown(function, found["f"].span)
    given = assign(ctx, function, Arguments([found["x"]], {}, arguments.span))
    values = prepared(ctx, function, given.values, (name,))
    traced = trace(ctx, function, values, (name,), arguments.span)
    solution = values[name].value
    _require_equation(traced, solution, found["x"].span, found["f"].span)
    count = len(traced.names)
    is_float = [leaf.dtype.is_float for leaf in _leaves(solution)]
    order = [at for at in range(count) if is_float[at]] + [at for at in range(count) if not is_float[at]]
    order += range(count, len(traced.operands))
    body = traced.region
    kept = compress(body.outputs, (leaf.dtype.is_float for leaf in traced.outputs))
    region = Region(tuple(body.inputs[at] for at in order), body.nodes, tuple(kept))
    op = Implicit(function=function_words(function), unknowns=sum(is_float), tolerance=_tolerance(found))
    names = [value.name for value in region.inputs[: op.unknowns]]
    with ctx.g.at(span=arguments.span):
        results = iter(ctx.g.apply(op, *(traced.operands[at] for at in order), regions=[region], names=names))
    return map_bound(
        solution, lambda held: Leaf(next(results)) if isinstance(held, Leaf) and held.dtype.is_float else held
    )


def _unknown(function: FunctionValue, span: Span) -> str:
    formals = [formal for formal in formals_of(function) if formal.default is None]
    if len(formals) != 1:
        title = f"the equation of `implicit` takes one argument, its unknown, not {len(formals)}"
        note = f"what else it needs it captures: {EXAMPLE}; several unknowns are a tuple or a record"
        raise TypeMismatch.at(span, title, "this function", note=note)
    return formals[0].name


def _leaves(value: Bound) -> list[Leaf]:
    return [leaf for _, leaf in leaves_of(value) if isinstance(leaf, Leaf)]


def _require_equation(traced: Traced, solution: Bound, place: Span, equation: Span) -> None:
    """The unknowns are floats of one dtype, and the equation gives a number for each of them."""
    floats, given = (
        [leaf.type for leaf in leaves if leaf.dtype.is_float] for leaves in (_leaves(solution), traced.outputs)
    )
    if not floats:
        raise NotDifferentiable.at(place, "`implicit` takes a solution of floats", f"this is {describe(solution)}")
    if len({type_.dtype for type_ in floats}) > 1:
        note = "bring them to one type, as in `f64(x)`"
        raise TypeMismatch.at(
            place, "the unknowns of an equation have one type of floats", describe(solution), note=note
        )
    if floats != given:
        title = f"this equation gives {describe(traced.result)} for a solution that is {describe(solution)}"
        note = "it gives what must be zero: as many numbers, in the same arrays, as there are unknowns"
        raise TypeMismatch.at(equation, title, "this function", also=[(place, "the solution")], note=note)


def _tolerance(found: dict[str, Binding]) -> float | None:
    if "tolerance" not in found:
        return None
    held = found["tolerance"].value
    if isinstance(held, Literal) and not isinstance(held.value, bool) and held.value > 0 and math.isfinite(held.value):
        return float(held.value)
    note = f"{EXAMPLE[:-2]}, tolerance=1e-6)`"
    raise TypeMismatch.at(found["tolerance"].span, "the tolerance of `implicit` is a positive number", note=note)
