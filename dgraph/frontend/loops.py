"""Loops: `for` and `while` become region nodes that carry the names bound before and rebound inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context, Loop, executes
from dgraph.frontend.formulas import (
    ZERO,
    free_index,
    leading_extent,
    range_call,
    range_parts,
    shifted,
    solid,
    static_length,
    trip_count,
    with_axes_in_front,
)
from dgraph.frontend.joins import carry_end, carry_start
from dgraph.frontend.numbers import affine_of, index_leaf, truth
from dgraph.frontend.statements import assign_to, require_single
from dgraph.frontend.values import (
    Binding,
    Bound,
    Extent,
    Leaf,
    Literal,
    RecordValue,
    ShapeValue,
    TupleValue,
    leaves_of,
    rebuild,
)
from dgraph.frontend.wishes import loop_facts, settled
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import For, While
from dgraph.sizes import Size, size
from dgraph.types import I64, Array

# ---- what a body rebinds --------------------------------------------------------------------------------------------


def rebound(suite: t.Suite) -> Iterator[str]:
    """Names that statements of a block bind or update, nested blocks included, in order."""
    for statement in suite.statements:
        yield from _rebound(statement)


def _rebound(statement: t.Statement) -> Iterator[str]:
    if isinstance(statement, t.Bind):
        yield from _targets(statement.target)
    elif isinstance(statement, t.Rebind):
        yield statement.place.name
    elif isinstance(statement, t.TypedBind | t.Function):
        yield statement.name
    elif isinstance(statement, t.If):
        for arm in statement.arms:
            yield from rebound(arm.body)
        if statement.otherwise is not None:
            yield from rebound(statement.otherwise)
    elif isinstance(statement, t.For | t.While | t.Scope):
        yield from rebound(statement.body)


def _targets(target: t.Place | t.Targets) -> Iterator[str]:
    if isinstance(target, t.Place):
        yield target.name
    else:
        for item in target.items:
            yield from _targets(item)


@dataclass
class Carried:
    """The names that a loop carries, with their values and leaves on entry."""

    names: list[str]
    starts: list[Bound]
    places: list[Span]

    @property
    def leaves(self) -> list[Leaf]:
        """The leaves of all carried values."""
        return [leaf for start in self.starts for _, leaf in leaves_of(start) if isinstance(leaf, Leaf)]

    @property
    def labels(self) -> list[str]:
        """The qualified names of the leaves."""
        pairs = zip(self.names, self.starts, strict=True)
        return [label for name, start in pairs for label, _ in leaves_of(start, name)]

    def enter(self, ctx: Context, values: Sequence[Value]) -> None:
        """Bind the names to the region's inputs, or to the loop's results."""
        found = iter([Leaf(value, leaf.weak, leaf.soft) for value, leaf in zip(values, self.leaves, strict=True)])
        for name, start, place in zip(self.names, self.starts, self.places, strict=True):
            ctx.names[name] = Binding(rebuild(start, found), place)

    def finish(self, ctx: Context) -> list[Value]:
        """The values of the names at the end of a step."""
        out: list[Value] = []
        for name, start, place in zip(self.names, self.starts, self.places, strict=True):
            end = ctx.names[name]
            out.extend(carry_end(ctx, name, start, end.value, (place, end.span)))
        return out


def carried_names(ctx: Context, body: t.Suite) -> Carried:
    """The names bound before a loop and rebound in its body, with what they hold on entry."""
    names = [name for name in dict.fromkeys(rebound(body)) if name in ctx.names]
    places = [ctx.names[name].span for name in names]
    starts = [carry_start(ctx, name, ctx.names[name].value, ctx.names[name].span) for name in names]
    return Carried(names, starts, places)


def run_body(ctx: Context, body: t.Suite) -> None:
    """The statements of a loop's body."""
    for statement in body.statements:
        ctx.execute(statement)


# ---- for ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """What a `for` runs over: a length, or a count that only the run decides. A step gives a number, an entry of an
    array, or a tuple of such."""

    span: Span
    count: Value | None
    length: Size | None
    start: Bound = ZERO
    step: int = 1
    source: Bound | None = None
    is_counter: bool = False
    parts: tuple[Walk, ...] = ()

    @property
    def sources(self) -> list[Bound]:
        """The arrays that are walked, in order."""
        own = [] if self.source is None else [self.source]
        return own + [source for part in self.parts for source in part.sources]

    def item(self, ctx: Context, counter: Leaf, entries: Iterator[Bound]) -> Bound:
        """What the step gives; `entries` are those of the arrays."""
        if self.parts:
            return TupleValue(tuple([part.item(ctx, counter, entries) for part in self.parts]))
        if self.is_counter:
            return shifted(ctx, counter, self.start, self.step)
        assert self.source is not None
        return rebuild(_slices(self.source), entries)


@executes(t.For)
def for_loop(ctx: Context, node: t.For) -> None:
    """`for i in range(n)`, `for row in xs`, `for t, x in enumerate(xs)`, `for a, b in zip(x, y)`, `for p in (a, b)`."""
    facts = loop_facts(node.annotations, "a `for` loop")
    items = _unrolled(ctx, node.iterable)
    if items is None:
        _emit_for(ctx, node, _walk(ctx, node.iterable), facts)
        return
    before = {word.name: ctx.names.get(word.name) for word in _all_words(node.names)}
    known = set(ctx.names)
    loop, ctx.loop = ctx.loop, None
    for at, item in enumerate(items):
        with ctx.step(node, at):
            _bind_words(ctx, node, item)
            run_body(ctx, node.body)
    ctx.loop = loop
    _forget(ctx, before, known)


def _forget(ctx: Context, before: dict[str, Binding | None], known: set[str]) -> None:
    """Names first bound in a loop are local to it."""
    for name in list(ctx.names):
        if name not in known:
            ctx.hidden[name] = (ctx.names[name].span, "bound inside the loop only")
            del ctx.names[name]
    for name, binding in before.items():
        if binding is not None:
            ctx.names[name] = binding


def _bind_words(ctx: Context, node: t.For, item: Bound) -> None:
    target = _places(node.names)
    if isinstance(target, t.Place):
        ctx.bind(target.name, item, target.span)
        return
    require_single(target)
    assign_to(ctx, target, item, node.iterable.span)


def _places(names: Sequence[t.Word | t.Words]) -> t.Place | t.Targets:
    """The names of a loop as the left side of a binding."""
    places = [_places(one.items) if isinstance(one, t.Words) else t.Place(one.span, one.name, ()) for one in names]
    return places[0] if len(places) == 1 else t.Targets(places[0].span.to(places[-1].span), tuple(places))


def _all_words(names: Sequence[t.Word | t.Words]) -> Iterator[t.Word]:
    for one in names:
        if isinstance(one, t.Words):
            yield from _all_words(one.items)
        else:
            yield one


def _walker(ctx: Context, node: t.Expression) -> tuple[str, t.Call] | None:
    """A call of `enumerate` or `zip`, with its arguments checked."""
    for word in ("zip", "enumerate"):
        made = range_call(ctx, node, word)
        if made is not None:
            if made.keywords or not made.arguments or (word == "enumerate" and len(made.arguments) != 1):
                note = "`enumerate(x)` counts the entries of one array, `zip(x, y)` goes through several side by side"
                raise TypeMismatch.at(node.span, f"`{word}` takes arrays", note=note)
            return word, made
    return None


def _unrolled(ctx: Context, node: t.Expression) -> list[Bound] | None:
    """The items of a loop over a tuple, which is unrolled; None for any other loop."""
    walker = _walker(ctx, node)
    if walker is not None:
        word, made = walker
        parts = [_unrolled(ctx, argument) for argument in made.arguments]
        tuples = [part for part in parts if part is not None]
        if len(tuples) < len(parts):
            return None
        if word == "enumerate":
            return [TupleValue((Literal(at), item)) for at, item in enumerate(tuples[0])]
        if len({len(items) for items in tuples}) > 1:
            lengths = ", ".join(str(len(items)) for items in tuples)
            raise TypeMismatch.at(node.span, "`zip` of tuples of different lengths", f"lengths {lengths}")
        return [TupleValue(items) for items in zip(*tuples, strict=True)]
    value = ctx.evaluate(node) if isinstance(node, t.Tuple | t.Name | t.Member | t.Index) else None
    if isinstance(value, TupleValue):
        return list(value.items)
    if isinstance(value, ShapeValue):
        return [Extent(extent) for extent in value.shape]
    return None


def _walk(ctx: Context, node: t.Expression) -> Walk:
    """What a `for` runs over."""
    ranged = range_call(ctx, node)
    if ranged is not None:
        start, stop, step = range_parts(ctx, ranged)
        length = static_length(start, stop, step)
        count = None if length is not None else trip_count(ctx, start, stop, step).value
        return Walk(node.span, count, length, start.value, step, is_counter=True)
    walker = _walker(ctx, node)
    if walker is None:
        source = ctx.evaluate(node)
        extent = leading_extent(source, node.span)
        return Walk(node.span, None, extent, source=source)
    word, made = walker
    parts = [_walk(ctx, argument) for argument in made.arguments]
    first = parts[0]
    for part in parts[1:]:
        if part.length is None or first.length is None:
            note = "`zip` takes arrays, and ranges whose length is a size"
            raise TypeMismatch.at(part.span, "the lengths of these are not known to be equal", note=note)
        if part.length != first.length:
            raise TypeMismatch.at(
                part.span,
                "`zip` of arrays of different lengths",
                f"length {part.length}",
                also=[(first.span, f"length {first.length}")],
                note="go through equal parts of them: `zip(x[:n], y[:n])`",
            )
    if word == "enumerate":
        parts.insert(0, Walk(node.span, first.count, first.length, is_counter=True))
    return Walk(node.span, first.count, first.length, parts=tuple(parts))


def _counter(names: Sequence[t.Word | t.Words], walk: Walk) -> tuple[str, Walk] | None:
    """The name that counts the steps, if there is one."""
    if len(names) == 1:
        only = names[0]
        if isinstance(only, t.Words):
            return _counter(only.items, walk)
        return (only.name, walk) if walk.is_counter else None
    pairs = zip(names, walk.parts, strict=False)
    found = [_counter([name], part) for name, part in pairs]
    return next((one for one in found if one is not None), None)


def _slices(value: Bound) -> Bound:
    """The tree of one entry of something that is walked."""
    if isinstance(value, RecordValue):
        fields = {name: _slices(held) for name, held in value.fields.items()}
        return RecordValue(value.declaration, value.arguments, value.axes[1:], fields)
    if isinstance(value, TupleValue):
        return TupleValue(tuple(_slices(item) for item in value.items))
    return value


def _emit_for(ctx: Context, node: t.For, walk: Walk, facts: dict[str, Any]) -> None:
    g, count = ctx.g, walk.count
    if count is None:
        assert walk.length is not None
        count = g.number(walk.length)
    carried = carried_names(ctx, node.body)
    for word in _all_words(node.names):
        if word.name in carried.names:
            note = "use another name inside"
            raise ScopeError.at(word.span, f"`{word.name}` is bound before this loop and rebound in it", note=note)
    walked = [leaf for source in walk.sources for _, leaf in leaves_of(source) if isinstance(leaf, Leaf)]
    child = g.child()
    counter = _counter(node.names, walk)
    index = child.input(Array(I64), counter[0] if counter is not None else "i")
    inputs = [child.input(leaf.type, label) for leaf, label in zip(carried.leaves, carried.labels, strict=True)]
    entries = [child.input(Array(leaf.dtype, leaf.shape[1:])) for leaf in walked]
    if walk.length is not None:
        ctx.repeats[child] = (walk.length,)
    with ctx.region(child), ctx.local():
        loop = Loop(counter[0] if counter is not None else "", walk.length)
        if counter is not None and (counter[1].step != 1 or affine_of(counter[1].start) != size(0)):
            loop.forbidden = "in a range that does not count up from 0 by 1"
        before, ctx.loop = ctx.loop, loop
        try:
            carried.enter(ctx, inputs)
            _bind_words(ctx, node, _item(ctx, walk, index, entries, walked))
            with ctx.step(node):
                run_body(ctx, node.body)
            outputs = carried.finish(ctx)
            names = dict(ctx.names)
        finally:
            ctx.loop = before
        stacked = {name: solid(ctx, held.value, held.span) for name, held in loop.collected.items()}
        outputs += [leaf.value for leaves in stacked.values() for leaf in leaves]
    _hide_locals(ctx, names)
    region = child.close(outputs)
    facts = settled(ctx, facts, count)
    stacks = len(outputs) - len(inputs)
    length = walk.length if stacks else None
    op = For(carries=len(inputs), walks=len(entries), stacks=stacks, length=length, **facts)
    operands = [leaf.value for leaf in [*carried.leaves, *walked]]
    labels = [
        *carried.labels,
        *(label for name, held in loop.collected.items() for label, _ in leaves_of(held.value, name)),
    ]
    results = g.apply(op, count, *operands, *child.captures, regions=[region], names=labels)
    carried.enter(ctx, results[: len(inputs)])
    found = iter(results[len(inputs) :])
    for name, held in loop.collected.items():
        assert walk.length is not None
        arrays = iter([Leaf(next(found), leaf.weak, leaf.soft) for leaf in stacked[name]])
        ctx.bind(name, with_axes_in_front(held.value, (walk.length,), arrays), held.span)


def _item(ctx: Context, walk: Walk, index: Value, entries: Sequence[Value], walked: Sequence[Leaf]) -> Bound:
    """What the names of a loop are bound to in one step."""
    counter = free_index(index) if walk.length is None else index_leaf(ctx, index, size(0), walk.length)
    found = iter([Leaf(entry, leaf.weak, leaf.soft) for entry, leaf in zip(entries, walked, strict=True)])
    return walk.item(ctx, counter, found)


def _hide_locals(ctx: Context, inside: dict[str, Binding]) -> None:
    """Remember names that exist inside a loop only, for the message when they are used after it."""
    for name, binding in inside.items():
        if name not in ctx.names:
            ctx.hidden[name] = (binding.span, "bound inside the loop only")


# ---- while ----------------------------------------------------------------------------------------------------------


@executes(t.While)
def while_loop(ctx: Context, node: t.While) -> None:
    """`while c:`."""
    facts = loop_facts(node.annotations, "a `while` loop")
    g = ctx.g
    carried = carried_names(ctx, node.body)
    test, step = g.child(), g.child()
    tested, stepped = (_inputs(builder, carried) for builder in (test, step))
    with ctx.region(test), ctx.local():
        carried.enter(ctx, tested)
        condition = Binding(ctx.evaluate(node.condition), node.condition.span)
        if isinstance(condition.value, Literal) and not carried.names:
            title = "this loop never ends" if condition.value.value else "this loop never runs"
            raise TypeMismatch.at(node.condition.span, title, "does not change")
        holds = truth(ctx, condition).value
    loop, ctx.loop = ctx.loop, None
    try:
        with ctx.region(step), ctx.local():
            carried.enter(ctx, stepped)
            with ctx.step(node):
                run_body(ctx, node.body)
            outputs = carried.finish(ctx)
            names = dict(ctx.names)
    finally:
        ctx.loop = loop
    _hide_locals(ctx, names)
    regions, captures = close_together([test, step], [[holds], outputs])
    op = While(carries=len(outputs), **settled(ctx, facts, None))
    operands = [leaf.value for leaf in carried.leaves]
    results = g.apply(op, *operands, *captures, regions=regions, names=[*carried.labels, "trips"])
    carried.enter(ctx, results[: len(outputs)])


def _inputs(builder: Builder, carried: Carried) -> list[Value]:
    pairs = zip(carried.leaves, carried.labels, strict=True)
    return [builder.input(leaf.type, label) for leaf, label in pairs]
