"""The builder: appends nodes, captures values of enclosing regions by itself, and closes regions.

    g = Builder()
    x = g.input(Array(F64, (n,)), "x")
    y = g.tanh(x)                                  # any op of the table by name; facts as keyword arguments
    total = g.reduce_sum(y, axes=(0,))
    region = g.close([total])

Inside region bodies given as Python functions, values of enclosing builders may be used freely: each becomes a
capture (an operand of the region op and an input of the region).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dgraph.errors import NOWHERE, InvalidGraph, Span
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import OPS, Op
from dgraph.sizes import Size, size
from dgraph.types import I64, Accumulator, Array, DType, Tape, ValueType

Body = Callable[..., Sequence[Value]]


class Builder:
    """Builds one region. `parent` is the builder of the region around it, whose values are captured when used."""

    def __init__(self, parent: Builder | None = None) -> None:
        self.parent = parent
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.captures: dict[Value, Value] = {}
        self._own: set[Value] = set()
        self._renamed: dict[Value, Value] = {}
        self.span: Span = parent.span if parent else NOWHERE
        self.scope: tuple[str, ...] = ()
        self.derived: str = parent.derived if parent else ""

    # ---- values -------------------------------------------------------------------------------------------------

    def input(self, type_: ValueType, name: str = "") -> Value:
        """A new input of this region."""
        value = Value(type_, name)
        self.inputs.append(value)
        self._own.add(value)
        return value

    def adopt(self, region: Region) -> None:
        """Take over the inputs and nodes of a region as they are, to build on."""
        self.inputs.extend(region.inputs)
        self._own.update(region.inputs)
        for node in region.nodes:
            self.append(node)

    def append(self, node: Node) -> None:
        """Append a node whose operands already belong to this region."""
        self.nodes.append(node)
        self._own.update(node.results)

    def resolve(self, value: Value) -> Value:
        """The value as this region sees it: itself if it is defined here, else the capture of it."""
        value = self._renamed.get(value, value)
        if value in self._own:
            return value
        captured = self.captures.get(value)
        if captured is None:
            if self.parent is None:
                raise InvalidGraph(f"{value!r} is used outside the region that defines it")
            self.parent.resolve(value)
            captured = self.captures[value] = Value(value.type, value.name)
            self._own.add(captured)
        return captured

    # ---- nodes --------------------------------------------------------------------------------------------------

    @contextmanager
    def at(
        self, span: Span | None = None, scope: tuple[str, ...] | None = None, derived: str | None = None
    ) -> Iterator[None]:
        """Within this context new nodes carry the given span, scope path and derivation."""
        before = self.span, self.scope, self.derived
        self.span = before[0] if span is None else span
        self.scope = before[1] if scope is None else scope
        self.derived = before[2] if derived is None else derived
        try:
            yield
        finally:
            self.span, self.scope, self.derived = before

    def apply(
        self, op: Op, *operands: Value, regions: Sequence[Region] = (), names: Sequence[str] = ()
    ) -> tuple[Value, ...]:
        """Append one node; result types are inferred."""
        own = tuple(map(self.resolve, operands))
        types = op.infer([value.type for value in own], regions)
        results = tuple(Value(type_, names[at] if at < len(names) else "") for at, type_ in enumerate(types))
        self.append(Node(op, own, results, tuple(regions), self.span, self.scope, self.derived))
        return results

    def emit(self, op: Op, *operands: Value, name: str = "") -> Value:
        """Append one node with a single result."""
        (result,) = self.apply(op, *operands, names=(name,))
        return result

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name.startswith("_") or name.rstrip("_") not in OPS:
            raise AttributeError(name)
        op = OPS[name.rstrip("_")]

        def make(*operands: Value, **facts: Any) -> Value:
            return self.emit(op(**facts), *operands)

        return make

    def name_result(self, value: Value, name: str) -> Value:
        """The value under a name if it is an unnamed result of the last node, which nothing has read; else as it is."""
        node = self.nodes[-1] if self.nodes else None
        if node is None or value.name or value not in node.results:
            return value
        named = self._renamed[value] = Value(value.type, name)
        self.nodes.pop()
        self.append(replace(node, results=tuple(named if result is value else result for result in node.results)))
        return named

    def constant(self, value: float | int | bool, dtype: DType) -> Value:
        """A scalar constant."""
        return self.emit(OPS["constant"](value=value, dtype=dtype))  # type: ignore[call-arg]

    def full(self, value: float | int | bool, type_: Array) -> Value:
        """A constant array."""
        number = self.constant(value, type_.dtype)
        return self.widen(number, type_.shape)

    def zeros(self, type_: ValueType) -> Value:
        """The zero of a type that has tangents; for an accumulator a fresh one."""
        if isinstance(type_, Accumulator):
            return self.emit(OPS["fresh"](type=type_))  # type: ignore[call-arg]
        if isinstance(type_, Array):
            return self.full(0, type_)
        return self.emit(OPS["zero_tape"](type=type_))  # type: ignore[call-arg]

    def number(self, extent: Size | int) -> Value:
        """A size as an i64 scalar."""
        return self.emit(OPS["size"](value=size(extent)))  # type: ignore[call-arg]

    def widen(self, value: Value, shape: tuple[Size, ...]) -> Value:
        """Broadcast along new leading axes and literal-1 axes to a shape; the value itself if it has it already."""
        if isinstance(value.type, Array) and value.type.shape == shape:
            return value
        return self.emit(OPS["broadcast"](shape=shape), value)  # type: ignore[call-arg]

    # ---- regions ------------------------------------------------------------------------------------------------

    def close(self, outputs: Iterable[Value]) -> Region:
        """The finished region; captures follow the inputs, in the order in which they were first used."""
        resolved = tuple(map(self.resolve, outputs))
        return Region((*self.inputs, *self.captures.values()), tuple(self.nodes), resolved)

    def child(self) -> Builder:
        """A builder for a region inside this one."""
        return Builder(self)

    def call(self, name: str, arguments: Sequence[Value], region: Region) -> tuple[Value, ...]:
        """A `call` node: `region` closed over exactly `arguments`."""
        return self.apply(OPS["call"](function=name), *arguments, regions=[region])  # type: ignore[call-arg]

    def inline(self, region: Region, arguments: Sequence[Value], scope: tuple[str, ...] = ()) -> list[Value]:
        """Copy the nodes of a region here with its inputs replaced; returns its outputs. Nested regions are shared."""
        if len(arguments) != len(region.inputs):
            raise InvalidGraph(f"{len(arguments)} arguments for a region of {len(region.inputs)} inputs")
        known = dict(zip(region.inputs, map(self.resolve, arguments), strict=True))
        for node in region.nodes:
            known.update(zip(node.results, self.copy(node, [known[v] for v in node.operands], scope), strict=True))
        return [known[value] for value in region.outputs]

    def copy(self, node: Node, operands: Sequence[Value], scope: tuple[str, ...] = ()) -> tuple[Value, ...]:
        """Append a copy of a node with other operands; its span, scope and derivation are kept."""
        own = tuple(map(self.resolve, operands))
        results = tuple(Value(value.type, value.name) for value in node.results)
        derived = node.derived or self.derived
        self.append(Node(node.op, own, results, node.regions, node.span, scope + node.scope, derived))
        return results

    def if_(self, predicate: Value, then: Body, otherwise: Body) -> tuple[Value, ...]:
        """`then()` or `otherwise()`, each a function of a child builder that returns outputs of equal types."""
        sides = [self.child(), self.child()]
        outputs = [list(body(side)) for body, side in zip((then, otherwise), sides, strict=True)]
        regions, captures = close_together(sides, outputs)
        return self.apply(OPS["if"](), predicate, *captures, regions=regions)

    def for_(
        self,
        count: Value,
        carries: Sequence[Value],
        body: Body,
        *,
        walks: Sequence[Value] = (),
        tapes: int = 0,
        reverse: bool = False,
        names: Sequence[str] = (),
        **facts: Any,
    ) -> tuple[Value, ...]:
        """A counted loop. `body(h, index, carried, walked)` returns the new carries followed by the outputs of the
        step: the last `tapes` of these go to tapes, the ones before are stacked along a new leading axis.

        Returns final carries, stacked outputs, tapes."""
        h = self.child()
        index = h.input(Array(I64), "i")
        carried = [h.input(value.type, value.name) for value in carries]
        walked = [h.input(element_type(value.type), value.name) for value in walks]
        outputs = list(body(h, index, carried, walked))
        stacks = len(outputs) - len(carries) - tapes
        region = h.close(outputs)
        op = OPS["for"](carries=len(carries), walks=len(walks), stacks=stacks, tapes=tapes, reverse=reverse, **facts)  # type: ignore[call-arg]
        return self.apply(op, count, *carries, *walks, *h.captures, regions=[region], names=names)

    def while_(
        self, carries: Sequence[Value], condition: Callable[..., Value], body: Body, *, tapes: int = 0, **facts: Any
    ) -> tuple[Value, ...]:
        """A loop that runs while `condition(h, carried)` holds; `body(h, carried)` returns the new carries followed by
        `tapes` entries. Returns final carries, tapes, and the number of trips (i64)."""
        test, step = self.child(), self.child()
        tested = [test.input(value.type, value.name) for value in carries]
        stepped = [step.input(value.type, value.name) for value in carries]
        outputs = [[condition(test, tested)], list(body(step, stepped))]
        regions, captures = close_together([test, step], outputs)
        op = OPS["while"](carries=len(carries), tapes=tapes, **facts)  # type: ignore[call-arg]
        return self.apply(op, *carries, *captures, regions=regions)

    def space(
        self,
        extents: Sequence[Size],
        body: Body,
        *,
        accumulators: Sequence[Value] = (),
        buffers: Sequence[Accumulator] = (),
        names: Sequence[str] = (),
        indices: Sequence[str] = (),
    ) -> tuple[Value, ...]:
        """An index space: independent points. `body(h, indices, accumulators, buffers)` returns the threaded
        accumulators, the own buffers, then one value per yield. Returns accumulators, buffers as arrays, yields as
        arrays with the extents in front."""
        h = self.child()
        at = [h.input(Array(I64), name) for name in indices or [f"i{axis}" for axis in range(len(extents))]]
        threaded = [h.input(value.type, value.name) for value in accumulators]
        own = [h.input(type_) for type_ in buffers]
        region = h.close(body(h, at, threaded, own))
        op = OPS["space"](extents=tuple(extents), accumulators=len(threaded), buffers=tuple(buffers))  # type: ignore[call-arg]
        return self.apply(op, *accumulators, *h.captures, regions=[region], names=names)

    def map(self, extents: Sequence[Size], body: Callable[..., Value]) -> Value:
        """An index space with one yield: `body(h, *indices)` is the entry at a point."""
        (result,) = self.space(extents, lambda h, indices, _a, _b: [body(h, *indices)])
        return result

    def sum_over(self, extents: Sequence[Size], dtype: DType, body: Callable[..., Value]) -> Value:
        """The sum of `body(h, *indices)` over an index space: an accumulate at the rank-0 index."""

        def point(h: Builder, indices: list[Value], _a: list[Value], own: list[Value]) -> list[Value]:
            return [h.accumulate(own[0], body(h, *indices))]

        (result,) = self.space(extents, point, buffers=[Accumulator(dtype)])
        return result


def close_together(builders: Sequence[Builder], outputs: Sequence[Sequence[Value]]) -> tuple[list[Region], list[Value]]:
    """Close sibling regions (the branches of an `if`, condition and body of a `while`) over one list of captures."""
    for builder, values in zip(builders, outputs, strict=True):
        for value in values:
            builder.resolve(value)
    captures = list(dict.fromkeys(value for builder in builders for value in builder.captures))
    regions = []
    for builder, values in zip(builders, outputs, strict=True):
        for value in captures:
            builder.resolve(value)
        builder.captures = {value: builder.captures[value] for value in captures}
        regions.append(builder.close(values))
    return regions, captures


def element_type(type_: ValueType) -> ValueType:
    """What a loop that walks a value of this type sees at each step: a slice of an array, an entry of a tape."""
    if isinstance(type_, Tape):
        return type_.entry
    if isinstance(type_, Array) and type_.shape:
        return Array(type_.dtype, type_.shape[1:])
    raise InvalidGraph(f"a {type_} cannot be walked")
