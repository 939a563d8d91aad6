"""Where the points of index spaces add to an accumulator, and whether two spaces can take turns at it point by point.

One space after the other adds in the order: all points of the first, then all of the second. Point by point every
entry gets the same numbers in the same order if no two different points add to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.index import Accumulate
from dgraph.passes.index_forms import Maker, index_form
from dgraph.sizes import Atom, Size, variable
from dgraph.types import I64, Array

_INDEX = Array(I64)

Places = tuple[Size, ...]
"""Indices as polynomials of captures, sizes, and the indices of the point, whose atoms are their positions."""


def can_take_turns(maker: Maker, first: Node, first_thread: int, second: Node, second_thread: int) -> bool:
    """Whether two spaces of equal extents, the second of which adds to what the first has added to, can do so point by
    point. Threads are counted among the accumulators of each; `maker` is that of the region around."""
    one, other = places_of(maker, first, first_thread), places_of(maker, second, second_thread)
    if one is None or other is None:
        return False
    assert isinstance(first.op, Space)
    return all(_never_cross(left, right, first.op.extents) for left in one for right in other)


def places_of(maker: Maker, space: Node, thread: int) -> list[Places] | None:
    """Where the points of a space add to one of its accumulators; None if that is not plain to see."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    rank = len(op.extents)
    known: dict[Value, Size] = {value: variable(axis) for axis, value in enumerate(body.inputs[:rank])}
    captures = zip(body.inputs[op.leading_inputs(0) :], space.operands[op.accumulators :], strict=True)
    known.update((value, index_form(maker, operand)) for value, operand in captures if value.type == _INDEX)
    found: list[Places] = []
    return found if _collect(body, body.inputs[rank + thread], known, found) else None


def _collect(region: Region, accumulator: Value, known: Mapping[Value, Size], found: list[Places]) -> bool:
    """Find where a region adds to an accumulator; False if it does more than that."""
    while accumulator not in region.outputs:
        users = region.users.get(accumulator, ())
        if len(users) != 1:
            return False
        (user,) = users
        if isinstance(user.op, Accumulate):
            forms = [_form(region, index, known) for index in user.operands[1:-1]]
            if not forms or None in forms:
                return False
            found.append(tuple(form for form in forms if form is not None))
            accumulator = user.result
        elif isinstance(user.op, If):
            at = user.operands.index(accumulator) - 1
            for side in user.regions:
                inner = {
                    value: form
                    for value, operand in zip(side.inputs, user.operands[1:], strict=True)
                    if (form := _form(region, operand, known)) is not None
                }
                if not _collect(side, side.inputs[at], inner, found):
                    return False
            position = user.regions[0].outputs.index(_end(user.regions[0], user.regions[0].inputs[at]))
            accumulator = user.results[position]
        else:
            return False
    return True


def _end(region: Region, accumulator: Value) -> Value:
    """The output by which an accumulator leaves a region that `_collect` has been through."""
    while accumulator not in region.outputs:
        (user,) = region.users[accumulator]
        if isinstance(user.op, If):
            side = user.regions[0]
            end = _end(side, side.inputs[user.operands.index(accumulator) - 1])
            accumulator = user.results[side.outputs.index(end)]
        else:
            accumulator = user.result
    return accumulator


def _form(region: Region, value: Value, known: Mapping[Value, Size]) -> Size | None:
    """An integer of a region in terms of what is known of its inputs."""
    if value.type != _INDEX:
        return None
    form = index_form(region.producers.get, value)
    inside = [atom for atom in form.atoms() if isinstance(atom, Value)]
    if any(atom not in known for atom in inside):
        return None
    values: dict[Atom, Size | int] = {atom: known[atom] for atom in inside}
    return form.substitute(values)


def _never_cross(one: Places, other: Places, extents: Sequence[Size]) -> bool:
    """Whether two different points never add to one place."""
    if len(one) != len(other):
        return False
    same: set[int] = set()
    for left, right in zip(one, other, strict=True):
        (axis, shift), (own_axis, own_shift) = _moved(left), _moved(right)
        if axis is None and own_axis is None:
            if (shift - own_shift).constant not in (0, None):
                return True
        elif axis is not None and own_axis is not None:
            distances = shift - own_shift - extents[own_axis], own_shift - shift - extents[axis]
            if any(_is_size(distance) and distance.is_nonnegative() for distance in distances):
                return True
            if axis == own_axis and shift == own_shift:
                same.add(axis)
    return len(same) == len(extents)


def _is_size(distance: Size) -> bool:
    """Whether a distance is made of sizes alone, which are not negative."""
    return all(isinstance(atom, str) for atom in distance.atoms())


def _moved(place: Size) -> tuple[int | None, Size]:
    """The axis of a point whose index a place is, and by how much it is moved; no axis if it depends on none.

    A place that depends on the point in another way counts as moved by what nothing else is moved by."""
    axes = [atom for atom in place.atoms() if isinstance(atom, int)]
    if not axes:
        return None, place
    shift = place - variable(axes[0])
    return (axes[0], shift) if len(axes) == 1 and axes[0] not in shift.atoms() else (axes[0], variable(object()))
