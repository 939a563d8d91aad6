"""Which sums in an index space are sums of products over bare loop indices, and over which triangle of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.arithmetic import Add, Mul
from dgraph.ops.compare import Greater, GreaterEqual, Less, LessEqual
from dgraph.ops.control import If, Space
from dgraph.ops.index import Accumulate, Index
from dgraph.ops.values import Constant
from dgraph.passes.product_forms import Axes, Form, Loop, Term, Triangle, flat, is_plain, product_form
from dgraph.sizes import Size
from dgraph.types import Accumulator, Array


@dataclass(frozen=True)
class Frame:
    """A region of a node on the way inwards: the body of a space, or a side of a choice."""

    node: Node
    side: int = 0

    @property
    def body(self) -> Region:
        """The region."""
        return self.node.regions[self.side]

    @property
    def extents(self) -> tuple[Size, ...]:
        """How often the region runs along each of its own indices."""
        return self.node.op.extents if isinstance(self.node.op, Space) else ()

    def captured(self, value: Value) -> Value | None:
        """What an input of the region is outside of it; None for what is no capture."""
        op = self.node.op
        assert isinstance(op, Space | If)
        lead = op.leading_inputs(self.side)
        inputs = self.body.inputs[lead:]
        return self.node.operands[op.leading_operands() + inputs.index(value)] if value in inputs else None


Path = tuple[Frame, ...]


@dataclass(frozen=True)
class Factor:
    """A number as an entry of an array at loop indices. `array` is outside of the nest; None for a number or array of
    the outermost point, `number`, which is an entry of what the space will yield."""

    array: Value | None
    number: Value
    indices: Axes


@dataclass(frozen=True)
class Product:
    """A sum of products of `left` and `right`, in a form that has a kernel.

    `accumulate` is the node that sums, in the body at the end of `path`. If it sums into the outermost space, `output`
    is the position among the outputs of its body, and `is_alone` says that nothing else sums into it. Else the sum is
    `entry` in the body of the outermost space, where it is read at `written` indices.
    """

    path: Path
    accumulate: Node
    left: Factor
    right: Factor
    form: Form
    output: int | None
    is_alone: bool
    entry: Value
    written: Axes


def products(space: Node) -> Iterator[Product]:
    """The products that an index space, a space directly inside its point, or a choice there sums."""
    for path in _paths((Frame(space),)):
        for node in path[-1].body.nodes:
            if isinstance(node.op, Accumulate):
                product = _product(path, node)
                if product is not None:
                    yield product


def _paths(path: Path) -> Iterator[Path]:
    yield path
    for node in path[-1].body.nodes:
        if isinstance(node.op, Space) and len(path) == 1:
            yield from _paths((*path, Frame(node)))
        elif isinstance(node.op, If):
            yield from ((*path, Frame(node, side)) for side in (0, 1))


def _product(path: Path, node: Node) -> Product | None:
    body = path[-1].body
    accumulator, *indices, entry = node.operands
    kind = accumulator.type
    maker = body.producers.get(entry)
    assert isinstance(kind, Accumulator)
    if kind.kind != "add" or not kind.dtype.is_float or len(indices) != kind.rank:
        return None
    inner = path
    if maker is not None and isinstance(maker.op, If) and not isinstance(path[-1].node.op, If):
        # A choice between a product and nothing.
        side = next((side for side in (0, 1) if _is_zero(maker.regions[1 - side], maker.results.index(entry))), None)
        if side is None:
            return None
        inner = (*path, Frame(maker, side))
        maker = inner[-1].body.producers.get(inner[-1].body.outputs[maker.results.index(entry)])
    if maker is None or not isinstance(maker.op, Mul) or maker.result.type != Array(kind.dtype):
        return None
    left, right = (_factor(inner, factor) for factor in maker.operands)
    triangle = _triangle(inner)
    place = _place(path, node)
    if left is None or right is None or place is None or (triangle is None and isinstance(inner[-1].node.op, If)):
        return None
    level, position, value, is_alone = place
    loops = {*flat(left.indices), *flat(right.indices)}
    if level == 0:
        written = _axes(path, indices)
        is_sure = isinstance(node.op, Accumulate) and node.op.policy == "proven"
        if written is None or not _fit(path, kind.shape, written, is_sure) or _all_loops(path) != loops:
            return None
    elif level == 1 and not kind.rank and is_alone and left.array is not None and right.array is not None:
        # A sum inside a point, over all indices of the inner space.
        written = tuple((Term(loop),) for loop in sorted(loop for loop in loops if loop.level == 0))
        if {Loop(1, at) for at in range(len(path[1].extents))} != loops - {*flat(written)}:
            return None
    else:
        return None
    form = product_form(left.indices, right.indices, written, lambda loop: _extent(path, loop), triangle)
    if form is None:
        return None
    return Product(path, node, left, right, form, None if level else position, is_alone, value, written)


def _is_zero(side: Region, output: int) -> bool:
    """Whether a side of a choice gives the number 0."""
    maker = side.producers.get(side.outputs[output])
    return maker is not None and isinstance(maker.op, Constant) and maker.op.number == 0


# ---- loop indices ---------------------------------------------------------------------------------------------------


def outside(path: Path, level: int, value: Value) -> tuple[int, Value]:
    """A value followed outwards through captures: the level of the body that defines it (-1: outside), and it."""
    while level >= 0:
        outer = path[level].captured(value)
        if outer is None:
            return level, value
        level, value = level - 1, outer
    return level, value


def _axes(path: Path, values: Sequence[Value]) -> Axes | None:
    """The values as loop indices or sums of two, all different; None if one is nothing of that."""
    found = []
    for value in values:
        axis = _axis(path, value)
        if axis is None:
            return None
        found.append(axis)
    loops = flat(tuple(found))
    return tuple(found) if len(set(loops)) == len(loops) else None


def _axis(path: Path, value: Value) -> tuple[Term, ...] | None:
    level, origin = outside(path, len(path) - 1, value)
    if level < 0:
        return None
    inputs = path[level].body.inputs[: len(path[level].extents)]
    if origin in inputs:
        return (Term(Loop(level, inputs.index(origin))),)
    maker = path[level].body.producers.get(origin)
    if maker is None or not isinstance(maker.op, Add | Mul):
        return None
    inner = path[: level + 1]
    if isinstance(maker.op, Mul):
        return _multiple(inner, *maker.operands) or _multiple(inner, *reversed(maker.operands))
    parts = [_axis(inner, operand) for operand in maker.operands]
    if any(part is None or len(part) > 1 for part in parts):
        return None
    return tuple(sorted(part[0] for part in parts if part is not None))


def _multiple(path: Path, value: Value, factor: Value) -> tuple[Term, ...] | None:
    """A loop index times a positive constant."""
    level, origin = outside(path, len(path) - 1, factor)
    maker = path[level].body.producers.get(origin) if level >= 0 else None
    axis = _axis(path, value)
    if maker is None or not isinstance(maker.op, Constant) or axis is None or len(axis) > 1 or maker.op.number < 1:
        return None
    return (Term(axis[0].loop, axis[0].times * int(maker.op.number)),)


def _fit(path: Path, shape: Sequence[Size], axes: Axes, is_sure: bool) -> bool:
    """Whether loop indices run over whole axes, and multiples and sums of them are sure to stay inside."""
    return len(shape) == len(axes) and all(
        extent == _extent(path, axis[0].loop) if is_plain(axis) else is_sure
        for extent, axis in zip(shape, axes, strict=True)
    )


def _extent(path: Path, loop: Loop) -> Size:
    return path[loop.level].extents[loop.position]


def _all_loops(path: Path) -> set[Loop]:
    return {Loop(level, position) for level, frame in enumerate(path) for position in range(len(frame.extents))}


def _triangle(path: Path) -> Triangle | None:
    """The two loop indices, and how far apart they may be, that the choice at the end of a path compares."""
    frame = path[-1]
    if not isinstance(frame.node.op, If):
        return None
    level, condition = outside(path, len(path) - 2, frame.node.operands[0])
    maker = path[level].body.producers.get(condition) if level >= 0 else None
    if maker is None or not isinstance(maker.op, Less | LessEqual | Greater | GreaterEqual):
        return None
    axes = _axes(path[: level + 1], maker.operands)
    if axes is None or not all(map(is_plain, axes)):
        return None
    loops = flat(axes)
    low, high = loops if isinstance(maker.op, Less | LessEqual) else loops[::-1]
    shift = int(isinstance(maker.op, LessEqual | GreaterEqual))
    # The other side of x < y + shift is y < x + 1 - shift.
    return Triangle(low, high, shift) if frame.side == 0 else Triangle(high, low, 1 - shift)


# ---- factors and sums -----------------------------------------------------------------------------------------------


def _factor(path: Path, value: Value) -> Factor | None:
    level, origin = outside(path, len(path) - 1, value)
    if level < 0:
        return None
    maker = path[level].body.producers.get(origin)
    if maker is None:
        return None
    if isinstance(maker.op, Index):
        inner = path[: level + 1]
        where, array = outside(inner, level, maker.operands[0])
        axes = _axes(inner, maker.operands[1:])
        assert isinstance(array.type, Array)
        if axes and _fit(path, array.type.shape, axes, maker.op.policy == "proven"):
            if where < 0:
                return Factor(array, origin, axes)
            if where == 0 and all(loop.level for loop in flat(axes)) and array in path[0].body.producers:
                return Factor(None, array, (*_own_axes(path[0]), *axes))
    return None if level or maker.regions else Factor(None, origin, _own_axes(path[0]))


def _own_axes(frame: Frame) -> Axes:
    return tuple((Term(Loop(0, position)),) for position in range(len(frame.extents)))


def _place(path: Path, node: Node) -> tuple[int, int, Value, bool] | None:
    """Where a sum ends: the level of the space that opens the accumulator, or 0 for what comes from further outside;
    the position among the outputs of its body; the sum as the body around it sees it; whether nothing else sums."""
    value, is_alone = node.result, True
    for level in range(len(path) - 1, -1, -1):
        frame = path[level]
        found = _followed(frame.body, value)
        if found is None:
            return None
        position, is_last = found
        start, is_first = _start(frame.body, value)
        is_alone = is_alone and is_last and is_first
        if isinstance(frame.node.op, If):
            other = frame.node.regions[1 - frame.side]
            if start not in frame.body.inputs or other.outputs[position] is not _twin(frame, start):
                return None
        elif level == 0 or position >= frame.node.op.accumulators:  # type: ignore[attr-defined]
            return level, position, frame.node.results[position], is_alone
        value = frame.node.results[position]
    return None


def _twin(frame: Frame, value: Value) -> Value:
    """The input of the other side of a choice for what an input of this side stands for."""
    return frame.node.regions[1 - frame.side].inputs[frame.body.inputs.index(value)]


def _followed(body: Region, value: Value) -> tuple[int, bool] | None:
    """The output that an accumulator reaches, if all on the way only adds to it, and whether nothing is on the way."""
    is_last = True
    while value not in body.outputs:
        users = body.users.get(value, ())
        if len(users) != 1:
            return None
        user, is_last = users[0], False
        if isinstance(user.op, Accumulate) and user.operands[0] is value:
            value = user.result
        elif isinstance(user.op, Space) and value in user.operands[: user.op.accumulators]:
            value = user.results[user.operands.index(value)]
        else:
            return None
    return body.outputs.index(value), is_last


def _start(body: Region, value: Value) -> tuple[Value, bool]:
    """What an accumulator was before all that adds to it, and whether that is one node."""
    count = 0
    while value not in body.inputs and (maker := body.producers.get(value)) is not None:
        if isinstance(maker.op, Accumulate):
            value = maker.operands[0]
        elif isinstance(maker.op, Space) and maker.results.index(value) < maker.op.accumulators:
            value = maker.operands[maker.results.index(value)]
        elif isinstance(maker.op, If):
            at = maker.results.index(value)
            start, _ = _start(maker.regions[0], maker.regions[0].outputs[at])
            outer = Frame(maker).captured(start)
            if outer is None:
                return value, False
            value = outer
        else:
            return value, False
        count += 1
    return value, count == 1
