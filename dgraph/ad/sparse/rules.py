"""How each op passes on integers that are known and sets of inputs. An op that is not in the table unites all that it
reads, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from dgraph.ad.sparse.held import (
    Anything,
    Held,
    HeldTape,
    Sets,
    aligned,
    gather,
    grouped,
    places_of,
    selector,
    spread,
    united,
)
from dgraph.classes import dataclass
from dgraph.errors import DgraphError
from dgraph.ir.graph import Node
from dgraph.ir.op import Op, SizeOf
from dgraph.ops.compare import Select
from dgraph.ops.elementwise import Elementwise, Steps
from dgraph.ops.index import Accumulate, Freeze, Fresh, Index, SetAt, Undefined, ZeroTape
from dgraph.ops.linalg import Dot
from dgraph.ops.reduce import Reduction
from dgraph.ops.scan import Running
from dgraph.ops.shape import Concat, Move
from dgraph.ops.values import Constant, Iota, SizeValue, StopGradient
from dgraph.types import Accumulator, Array, Tape, ValueType


@dataclass(frozen=True, eq=False)
class Lanes:
    """Where a region runs: the lanes, None at the top where there is one; and which of them really come here."""

    own: Any = None
    active: Any = None

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return 1 if self.own is None else len(self.own)

    @property
    def all(self) -> Any:
        """The lanes as numbers."""
        return np.arange(1) if self.own is None else self.own

    def only(self, mask: Any) -> Lanes:
        """Those among the active lanes that a mask names."""
        return Lanes(self.own, mask if self.active is None else self.active & mask)


def shape_of(type_: ValueType, size_of: SizeOf) -> tuple[int, ...]:
    """The shape of an array or accumulator in numbers."""
    assert isinstance(type_, Array | Accumulator)
    return tuple(max(size_of(extent), 0) for extent in type_.shape)


def empty(type_: ValueType, size_of: SizeOf) -> Anything:
    """A value that depends on nothing and of which nothing is known."""
    return HeldTape() if isinstance(type_, Tape) else Held(shape_of(type_, size_of))


def results_of(node: Node, operands: Sequence[Any], size_of: SizeOf, lanes: Lanes) -> Sequence[Anything]:
    """What holds of the results of a node that has no regions."""
    for kind, rule in RULES:
        if isinstance(node.op, kind):
            (result,) = node.results
            found = rule(node.op, operands, size_of, lanes)
            assert isinstance(found, HeldTape) or found.shape == shape_of(result.type, size_of), node
            return (_sound(found, result.type),)
    return whole(node, operands, size_of, lanes)


def _sound(found: Anything, type_: ValueType) -> Anything:
    """Only floats depend on anything; floats and keys are never known, so that a pattern holds for all of them."""
    if isinstance(found, HeldTape) or not isinstance(type_, Array | Accumulator):
        return found
    if type_.dtype.is_float:
        return found if found.known is None else replace(found, known=None)
    return replace(found, sets=None, known=None if type_.dtype.kind == "key" else found.known)


def whole(node: Node, operands: Sequence[Any], size_of: SizeOf, lanes: Lanes) -> Sequence[Anything]:
    """Every entry of every result depends on all that any entry of an operand does, copy by copy."""
    held = [operand for operand in operands if isinstance(operand, Held)]
    values, copy, copies = aligned(held, lanes.own)
    total: Sets | None = None
    for value in values:
        total = united(total, grouped(value.sets, np.repeat(np.arange(copies), value.entries), copies))
    found: list[Anything] = []
    for result in node.results:
        if isinstance(result.type, Tape):
            found.append(HeldTape())
            continue
        shape = shape_of(result.type, size_of)
        sets = None if total is None else gather(total, np.repeat(np.arange(copies), prod(shape)))
        found.append(_sound(Held(shape, None, sets, copy, copies), result.type))
    return found


def evaluated(op: Op, size_of: SizeOf, values: Sequence[Any]) -> Any:
    """The result of an op on numbers that are known; None where it is a fault, which the run itself reports."""
    if any(value is None for value in values):
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.evaluate(size_of, *values))
    except (DgraphError, ArithmeticError, IndexError, ValueError):
        return None


# ---- values from nothing --------------------------------------------------------------------------------------------


def _given(op: Any, _operands: Sequence[Held], size_of: SizeOf, _lanes: Lanes) -> Held:
    known = np.asarray(op.evaluate(size_of))
    return Held(known.shape, known[None])


def _fresh(op: Any, _operands: Sequence[Held], size_of: SizeOf, lanes: Lanes) -> Held:
    return Held(shape_of(op.type, size_of), None, None, lanes.own, lanes.count)


def _undefined(op: Any, _operands: Sequence[Held], size_of: SizeOf, _lanes: Lanes) -> Anything:
    return empty(op.type, size_of)


# ---- entry by entry -------------------------------------------------------------------------------------------------


def _elementwise(op: Op, operands: Sequence[Held], size_of: SizeOf, lanes: Lanes) -> Held:
    values, copy, copies = aligned(operands, lanes.own)
    known = evaluated(op, size_of, [value.known for value in values])
    if known is not None:
        known = np.broadcast_to(known, (copies, *values[0].shape))
    return Held(values[0].shape, known, united(*(value.sets for value in values)), copy, copies)


def _constant_almost_everywhere(op: Op, operands: Sequence[Held], size_of: SizeOf, lanes: Lanes) -> Held:
    return replace(_elementwise(op, operands, size_of, lanes), sets=None)


def _select(op: Op, operands: Sequence[Held], size_of: SizeOf, lanes: Lanes) -> Held:
    found = _elementwise(op, operands, size_of, lanes)
    (predicate, one, other), _, _ = aligned(operands, lanes.own)
    if predicate.known is None:
        return found
    takes_one = np.broadcast_to(predicate.known, (found.copies, *found.shape)).ravel()
    rows = np.arange(len(takes_one))
    left, right = np.where(takes_one, rows, -1), np.where(takes_one, -1, rows)
    return replace(found, sets=united(gather(one.sets, left), gather(other.sets, right)))


# ---- moves and sums -------------------------------------------------------------------------------------------------


def _moved(op: Op, operands: Sequence[Held], size_of: SizeOf, lanes: Lanes) -> Held:
    """Where each entry comes from is found by moving the numbers of the places, counted from 1: padding gives 0."""
    values, copy, copies = aligned(operands, lanes.own)
    offsets = [0, *accumulate(value.entries for value in values)]
    numbers = [
        np.arange(start + 1, start + value.entries + 1).reshape(value.shape)
        for start, value in zip(offsets, values, strict=False)
    ]
    places = np.asarray(op.evaluate(size_of, *numbers))
    flat = places.ravel() - 1
    known, sets = None, None
    if all(value.known is not None for value in values):
        table = np.concatenate([value.known.reshape(copies, -1) for value in values], axis=1)
        table = np.concatenate([table, np.zeros((copies, 1), table.dtype)], axis=1)
        known = table[:, flat].reshape(copies, *places.shape)
    for start, value in zip(offsets, values, strict=False):
        inner = np.where((flat >= start) & (flat < start + value.entries), flat - start, -1)
        sets = united(sets, gather(value.sets, places_of(np.arange(copies), value.entries, inner)))
    return Held(places.shape, known, sets, copy, copies)


def _reduced(op: Any, operands: Sequence[Held], size_of: SizeOf, _lanes: Lanes) -> Held:
    (value,) = operands
    shape = tuple(extent for axis, extent in enumerate(value.shape) if axis not in op.axes)
    shifted = replace(op, axes=(*(axis + 1 for axis in op.axes),))
    known = evaluated(shifted, size_of, [value.known])
    return Held(shape, known, _without_axes(value, op.axes), value.copy, value.copies)


def _without_axes(value: Held, axes: Sequence[int]) -> Sets | None:
    """The union over some axes."""
    kept = [1 if axis in axes else extent for axis, extent in enumerate(value.shape)]
    numbers = np.broadcast_to(np.arange(prod(kept)).reshape(kept), value.shape).ravel()
    groups = places_of(np.arange(value.copies), prod(kept), numbers)
    return grouped(value.sets, groups, value.copies * prod(kept))


def _running(op: Any, operands: Sequence[Held], _size_of: SizeOf, _lanes: Lanes) -> Held:
    """Entry k along the axis unites those up to k: twice as many with each step."""
    (value,) = operands
    extent = value.shape[op.axis]
    places = np.arange(value.entries).reshape(value.shape)
    sets, width = value.sets, 1
    while width < extent and sets is not None:
        source = np.full(value.shape, -1)
        into, out_of = [slice(None)] * len(value.shape), [slice(None)] * len(value.shape)
        ends = slice(width, None), slice(None, -width)
        into[op.axis], out_of[op.axis] = reversed(ends) if op.reverse else ends
        source[tuple(into)] = places[tuple(out_of)]
        rows = places_of(np.arange(value.copies), value.entries, source.ravel())
        sets, width = united(sets, gather(sets, rows)), 2 * width
    return Held(value.shape, None, sets, value.copy, value.copies)


def _dot(op: Dot, operands: Sequence[Held], _size_of: SizeOf, lanes: Lanes) -> Held:
    """Entry (i, j) unites what row i of the one operand and column j of the other depend on."""
    (a, b), copy, copies = aligned(operands, lanes.own)
    contracted = (
        len(a.shape) - (2 if op.transpose_a else 1),
        len(b.shape) - (1 if op.transpose_b or len(b.shape) == 1 else 2),
    )
    batch = a.shape[:-2] if len(a.shape) > 1 else ()
    free = [
        tuple(extent for axis, extent in enumerate(value.shape) if axis != gone and axis >= len(batch))
        for value, gone in zip((a, b), contracted, strict=True)
    ]
    shape = (*batch, *free[0], *free[1])
    spans = (*batch, *free[0], *(1 for _ in free[1])), (*batch, *(1 for _ in free[0]), *free[1])
    sets: Sets | None = None
    for value, gone, span in zip((a, b), contracted, spans, strict=True):
        inner = np.broadcast_to(np.arange(prod(span)).reshape(span), shape).ravel()
        sets = united(sets, gather(_without_axes(value, (gone,)), places_of(np.arange(copies), prod(span), inner)))
    return Held(shape, None, sets, copy, copies)


# ---- places ---------------------------------------------------------------------------------------------------------


def read(op: Index, operands: Sequence[Held], _size_of: SizeOf, lanes: Lanes) -> Held:
    """What holds of an entry or sub-array at some indices; an index that is not known stands for all along its axis."""
    array, *indices = operands
    blurred = [axis for axis, index in enumerate(indices) if index.known is None]
    if blurred:
        shape = tuple(extent for axis, extent in enumerate(array.shape) if axis not in blurred)
        array = Held(shape, None, _without_axes(array, blurred), array.copy, array.copies)
        indices = [index for index in indices if index.known is not None]
        if any(extent == 0 for extent in shape):
            return Held(shape[len(indices) :])
    rest = array.shape[len(indices) :]
    ways = [value.copy for value in (array, *indices) if value.copy is not None]
    alike = all(way is ways[0] for way in ways)
    many = [value.copies for value in (array, *indices) if value.copy is not None]
    copy, copies = (ways[0], many[0]) if ways else (None, 1)
    if not alike:
        copy, copies = lanes.own, lanes.count
        indices = [index if index.copy is None else spread(index, lanes.own) for index in indices]
    flat = _flat(op.policy, indices, array.shape, copies)
    own = np.arange(copies) if alike else array.copy
    bases = np.zeros(copies, np.int64) if array.copy is None else own
    rows = np.where(flat < 0, -1, bases * prod(array.shape[: len(indices)]) + flat)
    entries = prod(rest)
    at = np.where(rows[:, None] < 0, -1, rows[:, None] * entries + np.arange(entries)).ravel()
    known = None
    if array.known is not None and not blurred:
        table = np.append(array.known.ravel(), np.zeros(1, array.known.dtype))
        known = table[at].reshape(copies, *rest)
    return Held(rest, known, gather(array.sets, at), copy, copies)


def _of_write(policy: str) -> str:
    """A write that leaves its array is a fault of the run, or dropped where checks are off."""
    return "clip" if policy == "clip" else "drop"


def _flat(policy: str, indices: Sequence[Held], shape: Sequence[int], copies: int) -> Any:
    """The row-major position of an index tuple in each copy; -1 where nothing is read or written."""
    flat = np.zeros(copies, np.int64)
    for index, extent in zip(indices, shape, strict=False):
        numbers = np.broadcast_to(index.known, (copies,)).astype(np.int64)
        is_outside = (numbers < 0) | (numbers >= extent)
        lost = is_outside if policy == "drop" or extent == 0 else np.zeros(copies, bool)
        step = flat * extent + np.clip(numbers, 0, max(extent - 1, 0))
        flat = np.where((flat < 0) | lost, -1, step)
    return flat


def _set(op: SetAt, operands: Sequence[Held], _size_of: SizeOf, lanes: Lanes) -> Held:
    values, copy, copies = aligned(operands, lanes.own)
    array, *indices, entry = values
    many, before = entry.entries, prod(array.shape[: len(indices)])
    if any(index.known is None for index in indices):
        everywhere = places_of(np.arange(copies), many, np.tile(np.arange(many), before))
        return Held(array.shape, None, united(array.sets, gather(entry.sets, everywhere)), copy, copies)
    flat = _flat(_of_write(op.policy), indices, array.shape, copies)
    written = np.flatnonzero(flat >= 0)
    rows = (written * before + flat[written])[:, None] * many + np.arange(many)
    new = written[:, None] * many + np.arange(many)
    total = copies * array.entries
    kept, source = np.arange(total), np.full(total, -1)
    kept[rows.ravel()] = -1
    source[rows.ravel()] = new.ravel()
    known = None
    if array.known is not None and entry.known is not None:
        known = np.array(np.broadcast_to(array.known, (copies, *array.shape)))
        known.reshape(-1)[rows.ravel()] = np.broadcast_to(entry.known, (copies, *entry.shape)).reshape(-1)[new.ravel()]
    return Held(array.shape, known, united(gather(array.sets, kept), gather(entry.sets, source)), copy, copies)


def _accumulate(op: Accumulate, operands: Sequence[Held], _size_of: SizeOf, lanes: Lanes) -> Held:
    into, *indices, entry = operands
    own = lanes.all
    entry = spread(entry, own)
    if entry.sets is None:
        return into
    many, before = entry.entries, prod(into.shape[: len(indices)])
    owner = np.zeros(len(own), np.int64) if into.copy is None else into.copy
    here = np.ones(len(own), bool) if lanes.active is None else lanes.active
    if any(index.known is None for index in indices):
        # All places of the owner take part: first the union over its lanes, then that union everywhere.
        groups = (owner[:, None] * many + np.arange(many)).ravel()
        rows = np.flatnonzero(np.repeat(here, many))
        total = selector(groups[rows], rows, (into.copies * many, len(groups))) @ entry.sets
        everywhere = places_of(np.arange(into.copies), many, np.tile(np.arange(many), before))
        return replace(into, sets=united(into.sets, gather(total, everywhere)))
    indices = [index if index.copy is None else spread(index, own) for index in indices]
    flat = _flat(_of_write(op.policy), indices, into.shape, len(own))
    written = np.flatnonzero((flat >= 0) & here)
    rows = ((owner[written] * before + flat[written])[:, None] * many + np.arange(many)).ravel()
    new = (written[:, None] * many + np.arange(many)).ravel()
    added = selector(rows, new, (into.copies * into.entries, len(own) * many)) @ entry.sets
    return replace(into, sets=united(into.sets, added))


def _frozen(_op: Freeze, operands: Sequence[Held], _size_of: SizeOf, _lanes: Lanes) -> Held:
    return operands[0]


Rule = Callable[[Any, Sequence[Any], SizeOf, Lanes], Anything]

RULES: list[tuple[type[Op] | tuple[type[Op], ...], Rule]] = [
    ((Constant, SizeValue, Iota), _given),
    (Fresh, _fresh),
    ((Undefined, ZeroTape), _undefined),
    (Select, _select),
    ((Steps, StopGradient), _constant_almost_everywhere),
    (Elementwise, _elementwise),
    ((Move, Concat), _moved),
    (Reduction, _reduced),
    (Running, _running),
    (Dot, _dot),
    (Index, read),
    (SetAt, _set),
    (Accumulate, _accumulate),
    (Freeze, _frozen),
]
"""The rule of each kind of op; the first that fits."""
