"""What `@checkpoint`, `@bound` and `@implicit` ask of a loop.

The numbers of `@checkpoint` may be computed, from sizes and from arguments of the host's call that are whole numbers:
each becomes a size variable of the graph, a *wish*, which every call gives its number. A value is followed back through
the functions around to those arguments; an index, or an entry of an array, is none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from itertools import count as numbers
from typing import Any

from dgraph.errors import ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotations import check_annotations, is_count, is_number
from dgraph.frontend.context import Context
from dgraph.frontend.values import Annotated, Bound, Extent, Leaf, Literal, describe
from dgraph.ir.build import Builder
from dgraph.ir.counts import COUNTING, Count, Given, Made
from dgraph.ir.graph import Node, Value, Wish
from dgraph.ops.values import Constant, SizeValue
from dgraph.sizes import AMOUNT_WORDS, Size, bytes_in, size, variable
from dgraph.types import Array


def loop_facts(annotations: Sequence[t.Annotation], what: str) -> dict[str, Any]:
    """The wishes of `@checkpoint`, `@bound` and `@implicit` as facts of a loop; those that are computed as they are
    written."""
    allowed: dict[str, tuple[str, ...] | None] = {"checkpoint": ("every", "slots", "budget", "disk")}
    if what == "a `while` loop":
        allowed |= {"bound": (), "implicit": ("tolerance",)}
    found = check_annotations(annotations, what, allowed)
    facts: dict[str, Any] = {}
    places = {annotation.name: annotation.span for annotation in annotations}
    if {"checkpoint", "implicit"} <= found.keys():
        title = "`@checkpoint` has nothing to do beside `@implicit`"
        also = [(places["implicit"], "this keeps no step at all")]
        note = "leave `@checkpoint` out, or `@implicit` to differentiate the steps"
        raise ScopeError.at(places["checkpoint"], title, "keeps less of the steps", also=also, note=note)
    for annotation in annotations:
        held = found[annotation.name]
        if annotation.name == "bound":
            if len(held.arguments) != 1 or not is_count(held.arguments[0]):
                raise TypeMismatch.at(annotation.span, "`@bound` takes one positive integer", note="`@bound(50)`")
            facts["bound"] = held.arguments[0]
            continue
        if annotation.name == "implicit":
            facts |= _implicit(annotation, held)
            continue
        facts.update(_checkpoint(annotation, held))
    return facts


def _implicit(annotation: t.Annotation, held: Annotated) -> dict[str, Any]:
    tolerance = held.keywords.get("tolerance")
    if held.arguments or not (tolerance is None or (is_number(tolerance) and tolerance > 0)):
        note = "`@implicit` or `@implicit(tolerance=1e-6)`"
        raise TypeMismatch.at(annotation.span, "the tolerance of `@implicit` is a positive number", note=note)
    return {"implicit": True, "tolerance": None if tolerance is None else float(tolerance)}


def _keeps_all(held: Annotated) -> bool:
    """`@checkpoint(none)`."""
    return held.arguments == (Annotated("none"),) and not held.keywords


def _checkpoint(annotation: t.Annotation, held: Annotated) -> dict[str, Any]:
    if _keeps_all(held):
        return {"every": 0}
    in_memory = [name for name in held.keywords if name != "disk"]
    if "disk" in held.keywords and in_memory not in (["slots"], ["budget"]):
        title = "`disk` stands beside `slots` or `budget`, which say what is kept in memory"
        note = "`@checkpoint(slots=8, disk=20)`: 8 states in memory and 20 on disk"
        raise TypeMismatch.at(annotation.span, title, note=note)
    if held.arguments or len(in_memory) != 1:
        note = '`@checkpoint(every=16)`, `@checkpoint(slots=8)`, `@checkpoint(budget="200MB")` or `@checkpoint(none)`'
        raise TypeMismatch.at(annotation.span, "`@checkpoint` takes one option", note=note)
    for name, value in held.keywords.items():
        if not isinstance(value, t.Expression):
            _check_wish(annotation, name, value)
    return dict(held.keywords)


def _check_wish(annotation: t.Annotation, name: str, value: Any) -> None:
    if name == "budget" and not isinstance(value, str):
        raise TypeMismatch.at(annotation.span, "a budget is a string", note='`@checkpoint(budget="200MB")`')
    if isinstance(value, str) and name in ("budget", "disk"):
        if bytes_in(value) is None:
            what = "memory" if name == "budget" else "room on disk"
            title = f'"{value}" is no amount of {what}'
            raise TypeMismatch.at(annotation.span, title, "not understood", note=AMOUNT_WORDS)
    elif not is_count(value):
        raise _no_count(name, annotation.span, "something else is given")


def _no_count(option: str, span: Span, said: str) -> TypeMismatch:
    """The refusal of what is no number of states or steps."""
    if option == "disk":
        title = "`disk` is a positive integer, which counts states, or an amount"
        note = '`@checkpoint(slots=8, disk=20)` or `@checkpoint(slots=8, disk="2GB")`'
        return TypeMismatch.at(span, title, said, note=note)
    return TypeMismatch.at(span, f"`{option}` is a positive integer", said, note=f"`@checkpoint({option}=16)`")


# ---- computed numbers -----------------------------------------------------------------------------------------------


def settled(ctx: Context, facts: Mapping[str, Any], count: Value | None) -> dict[str, Any]:
    """The facts of a loop with a size variable for every wish that is computed, before the loop of so many steps (None
    if nobody knows)."""
    return {
        name: _computed(ctx, name, value, count) if isinstance(value, t.Expression) else value
        for name, value in facts.items()
    }


def _computed(ctx: Context, option: str, written: t.Expression, count: Value | None) -> Size | int:
    with ctx.region(ctx.g.child()) as builder:
        value = ctx.evaluate(written)
        found = _count_of(ctx, builder, value, option, written.span)
        if isinstance(found, Size) and found.constant is not None:
            if found.constant < 1:
                raise _no_count(option, written.span, f"this is {found}")
            return found.constant
        steps = None if count is None or option == "disk" else _Origins(ctx, builder).count(count)
    if steps is not None:
        # More than there are steps means the same and would take more memory.
        found = Made("minimum", (found, Made("maximum", (steps, size(1)))))
    ctx.computed += 1
    return variable(_wish(ctx, option, found, written.span).name)


def _wish(ctx: Context, option: str, value: Count, span: Span) -> Wish:
    """The wish of a number, made now or before."""
    for wish in ctx.wishes:
        if (wish.option, wish.value) == (option, value):
            return wish
    taken = {*ctx.sizes, *(wish.name for wish in ctx.wishes)}
    names = chain([option], (f"{option}_{at}" for at in numbers(2)))
    made = Wish(next(name for name in names if name not in taken), option, value, span)
    ctx.wishes.append(made)
    return made


def _count_of(ctx: Context, builder: Builder, value: Bound, option: str, span: Span) -> Count:
    """A value as a number that is known when the call begins."""
    if isinstance(value, Extent):
        return value.size
    if isinstance(value, Literal) and type(value.value) is int:
        return size(value.value)
    if not isinstance(value, Leaf) or value.shape or value.dtype.kind != "int":
        raise _no_count(option, span, f"this is {describe(value)}")
    found = _Origins(ctx, builder).count(value.value)
    if found is None:
        title = f"`{option}` must be known when the call begins"
        note = "compute it from sizes and from integer arguments of the call, by + - * // %, `min` and `max`"
        raise TypeMismatch.at(span, title, "only the run knows this", note=note)
    return found


class _Origins:
    """What values are made of, as far as the builders around have it."""

    def __init__(self, ctx: Context, builder: Builder) -> None:
        self.outer: dict[Value, Value] = dict(ctx.origins)
        self.makers: dict[Value, Node] = {}
        around: Builder | None = builder
        while around is not None:
            self.outer.update((inside, outside) for outside, inside in around.captures.items())
            self.makers.update((result, node) for node in around.nodes for result in node.results)
            self.places = {value: at for at, value in enumerate(around.inputs)}
            around = around.parent

    def count(self, value: Value) -> Count | None:
        """An integer by sizes and arguments; None if only the run knows it."""
        while value in self.outer:
            value = self.outer[value]
        if not (isinstance(value.type, Array) and value.type.dtype.kind == "int" and not value.type.shape):
            return None
        if value in self.places:
            return Given(self.places[value])
        node = self.makers.get(value)
        if node is None:
            return None
        if isinstance(node.op, SizeValue):
            return node.op.value
        if isinstance(node.op, Constant):
            return size(int(node.op.number))
        if node.op.name not in COUNTING:
            return None
        parts = [self.count(operand) for operand in node.operands]
        known = tuple(part for part in parts if part is not None)
        return Made(node.op.name, known) if len(known) == len(parts) else None
