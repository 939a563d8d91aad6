"""Index ranges: how far an affine subscript reaches, whether a read is inside, and the range of an index without `in`.

A subscript is a `Size` whose atoms may be indices. An index that stands alone in every subscript takes the axis that
it reads, and those axes must agree; with offsets or strides it takes the largest range in which all reads are inside,
which must be provable for all sizes and start at 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ScopeError, SizeMismatch, Span
from dgraph.sizes import Atom, Quotient, Size, size, variable

Ranges = Mapping[Any, tuple[Size, Size]]
"""The half-open range of each index."""


@dataclass(frozen=True)
class Read:
    """One subscript: an affine expression read along an axis of some extent. A read under a guard need not be inside
    for every index, so there only an index that stands alone says anything about its range."""

    subscript: Size
    extent: Size
    span: Span
    is_guarded: bool = False


@dataclass(frozen=True)
class Unknown:
    """An index whose range is wanted."""

    atom: Atom
    name: str
    span: Span


def split_linear(expression: Size, atom: Atom) -> tuple[Size, Size] | None:
    """`expression` as `factor * atom + rest`, if it is linear in the atom."""
    factor: dict[tuple[Atom, ...], int] = {}
    rest: dict[tuple[Atom, ...], int] = {}
    for monomial, coefficient in expression.terms:
        if monomial.count(atom) == 1:
            left = list(monomial)
            left.remove(atom)
            if any(_inside(part, atom) for part in left):
                return None
            factor[tuple(left)] = coefficient
        elif atom in monomial or any(_inside(part, atom) for part in monomial):
            return None
        else:
            rest[monomial] = coefficient
    return size(0) + Size(tuple(factor.items())), size(0) + Size(tuple(rest.items()))


def _inside(part: Atom, atom: Atom) -> bool:
    return isinstance(part, Quotient) and atom in (*part.numerator.atoms(), *part.denominator.atoms())


def extreme(expression: Size, ranges: Ranges, *, upward: bool) -> Size | None:
    """The largest (or smallest) value over all indices in their ranges, as a size; None if it cannot be told."""
    for _ in range(64):
        index = next((atom for atom in expression.atoms() if atom in ranges), None)
        if index is None:
            return expression
        parts = split_linear(expression, index)
        if parts is None:
            return None
        factor, rest = parts
        low, high = ranges[index]
        if factor.is_nonnegative():
            at = high - 1 if upward else low
        elif (-factor).is_nonnegative():
            at = low if upward else high - 1
        else:
            return None
        expression = factor * at + rest
    return None


def is_inside(subscript: Size, extent: Size, ranges: Ranges, facts: Sequence[Size] = ()) -> bool:
    """Whether a subscript is provably inside an axis for all indices. `facts` are known to be at least 0."""
    return all(holds(wanted, ranges, facts) for wanted in (subscript, extent - 1 - subscript))


def holds(wanted: Size, ranges: Ranges, facts: Sequence[Size]) -> bool:
    """Whether an expression is at least 0: in itself, or because it is at least a fact."""
    for rest in (wanted, *(wanted - fact for fact in facts)):
        lowest = extreme(rest, ranges, upward=False)
        if lowest is not None and is_never_negative(lowest) and _is_size(lowest):
            return True
    return False


def _is_size(expression: Size) -> bool:
    """Whether an expression is made of sizes only: values of the graph may be negative."""
    return all(isinstance(atom, str | Quotient) for atom in expression.atoms())


def is_never_negative(expression: Size) -> bool:
    """Whether a size is provably at least 0, also by `d * (n // d) <= n`."""
    relaxed = size(0)
    for monomial, coefficient in expression.terms:
        term = Size(((monomial, coefficient),))
        relaxed = relaxed + (term if coefficient > 0 else _largest(monomial, coefficient) or term)
    return relaxed.is_nonnegative()


def _largest(monomial: tuple[Atom, ...], coefficient: int) -> Size | None:
    """A bound from below of a negative term that holds a quotient times its denominator."""
    for at, atom in enumerate(monomial):
        if not isinstance(atom, Quotient):
            continue
        others = Size(((monomial[:at] + monomial[at + 1 :], coefficient),))
        scale = others // atom.denominator
        if scale * atom.denominator == others:
            return scale * atom.numerator
    return None


def infer(unknowns: Sequence[Unknown], reads: Sequence[Read], known: Ranges) -> dict[Atom, Size]:
    """The length of the range of every unknown index. Raises if there is none, or none that is provable."""
    ranges: dict[Atom, tuple[Size, Size]] = dict(known)
    lengths: dict[Atom, Size] = {}
    waiting = list(unknowns)
    plain = {variable(index.atom) for index in unknowns}
    reads = [read for read in reads if not read.is_guarded or read.subscript in plain]
    uses = {index.atom: [read for read in reads if index.atom in set(read.subscript.atoms())] for index in unknowns}
    while waiting:
        index = _next(waiting, uses)
        waiting.remove(index)
        length = _length(index, uses[index.atom], {other.atom for other in waiting}, ranges)
        ranges[index.atom] = (size(0), length)
        lengths[index.atom] = length
    open_reads = dict.fromkeys(read for index in unknowns for read in uses[index.atom])
    for read in open_reads:
        if read.subscript not in plain and not is_inside(read.subscript, read.extent, ranges):
            raise SizeMismatch.at(
                read.span,
                "this read cannot be proven to stay inside",
                f"the axis has length {read.extent}",
                also=[(index.span, f"`{index.name}` runs to {lengths[index.atom]}") for index in unknowns],
                note="say the ranges: `for i in range(...)`",
            )
    return lengths


def _next(waiting: Sequence[Unknown], uses: Mapping[Atom, Sequence[Read]]) -> Unknown:
    """The index to solve next: one whose reads are all decided, else the innermost with a decided read."""
    for index in waiting:
        others = {other.atom for other in waiting if other is not index}
        if uses[index.atom] and not any(_mentions(read, others) for read in uses[index.atom]):
            return index
    for index in reversed(waiting):
        others = {other.atom for other in waiting if other is not index}
        if any(not _mentions(read, others) for read in uses[index.atom]):
            return index
    index = waiting[0]
    raise ScopeError.at(
        index.span,
        f"the range of `{index.name}` cannot be found",
        "no subscript decides it",
        note=f"say it: `for {index.name} in range(...)`",
    )


def _mentions(read: Read, atoms: set[Atom]) -> bool:
    return any(atom in atoms for atom in read.subscript.atoms())


def _length(index: Unknown, uses: Sequence[Read], open_atoms: set[Atom], ranges: Ranges) -> Size:
    """The length of one range, from the reads in which no other index is open."""
    decided = [read for read in uses if not _mentions(read, open_atoms)]
    alone = [read for read in decided if read.subscript == variable(index.atom)]
    if len(alone) == len(uses):
        for read in alone[1:]:
            if read.extent != alone[0].extent:
                raise SizeMismatch.at(
                    read.span,
                    f"`{index.name}` reads axes of lengths {alone[0].extent} and {read.extent}",
                    f"length {read.extent}",
                    also=[(alone[0].span, f"length {alone[0].extent}")],
                    note=f"say which: `for {index.name} in range(...)`",
                )
        return alone[0].extent
    bounds = [(read, _bound(index, read, ranges)) for read in decided]
    for _, bound in bounds:
        if all((rival - bound).is_nonnegative() for _, rival in bounds):
            return bound
    (first, bound), (second, rival) = bounds[0], next(pair for pair in bounds[1:] if pair[1] != bounds[0][1])
    raise SizeMismatch.at(
        second.span,
        f"the range of `{index.name}` is {bound} or {rival}, whichever is smaller",
        f"inside up to {rival}",
        also=[(first.span, f"inside up to {bound}")],
        note=f"neither is smaller for all sizes; say it: `for {index.name} in range(...)`",
    )


def _bound(index: Unknown, read: Read, ranges: Ranges) -> Size:
    """How far the index can run so that one read stays inside; it must be able to start at 0."""
    parts = split_linear(read.subscript, index.atom)
    if parts is None:
        raise _unclear(index, read)
    factor, rest = parts
    lowest, highest = extreme(rest, ranges, upward=False), extreme(rest, ranges, upward=True)
    if lowest is None or highest is None:
        raise _unclear(index, read)
    if factor.is_nonnegative():
        if not lowest.is_nonnegative():
            raise _not_from_zero(index, read, lowest)
        return (read.extent - 1 - highest) // factor + 1
    if (-factor).is_nonnegative():
        if not (read.extent - 1 - highest).is_nonnegative():
            raise _not_from_zero(index, read, highest)
        return lowest // -factor + 1
    raise _unclear(index, read)


def _not_from_zero(index: Unknown, read: Read, at_zero: Size) -> SizeMismatch:
    return SizeMismatch.at(
        read.span,
        f"`{index.name}` would not start at 0",
        f"at {index.name} = 0 this reads entry {at_zero} of {read.extent}",
        also=[(index.span, "its range is inferred")],
        note=f"say the range and guard the read: `for {index.name} in range(...)`",
    )


def _unclear(index: Unknown, read: Read) -> SizeMismatch:
    return SizeMismatch.at(
        read.span,
        f"the range of `{index.name}` cannot be found from this subscript",
        also=[(index.span, "its range is inferred")],
        note=f"say it: `for {index.name} in range(...)`",
    )
