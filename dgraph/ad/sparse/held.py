"""What is held of a value while a pattern is found: its integers where they are known, and for each of its entries the
set of inputs on which it may depend.

The points of an index space are interpreted together, as lanes. A value is held in one or more copies, each with
entries of its own, and every lane reads one of them; a value from outside of the space has one copy for all lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from scipy import sparse

from dgraph.classes import dataclass

Sets = Any
"""A CSR array of bools: a row per entry of every copy, a column per input."""


@dataclass(frozen=True, eq=False)
class Held:
    """A value. `known` has a leading axis of copies, or is None; `sets` is None where nothing depends on an input;
    `copy` says which copy each lane reads, and is None where there is only one."""

    shape: tuple[int, ...]
    known: Any = None
    sets: Sets | None = None
    copy: Any = None
    copies: int = 1

    @property
    def entries(self) -> int:
        """Entries of one copy."""
        return prod(self.shape)


@dataclass(frozen=True)
class HeldTape:
    """The entries of a tape: one for each step, or with `is_uniform` one that stands for all."""

    entries: tuple[Any, ...] = ()
    is_uniform: bool = False


Anything = Held | HeldTape


def selector(rows: Any, columns: Any, shape: tuple[int, int]) -> Sets:
    """The array with an entry at each of the given places; with it from the left, sets are gathered and united."""
    return sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)


def gather(sets: Sets | None, places: Any) -> Sets | None:
    """The rows at some places; the empty set for a place of -1."""
    if sets is None or not sets.nnz:
        return None
    inside = np.flatnonzero(places >= 0)
    if len(inside) == len(places):
        return sets[places]
    return selector(inside, places[inside], (len(places), sets.shape[0])) @ sets


def united(*parts: Sets | None) -> Sets | None:
    """The union, row by row."""
    total: Sets | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def grouped(sets: Sets | None, groups: Any, count: int) -> Sets | None:
    """The union of the rows of each group, given the group of every row."""
    if sets is None or not sets.nnz:
        return None
    return selector(groups, np.arange(len(groups)), (count, len(groups))) @ sets


def places_of(copies: Any, size: int, inner: Any) -> Any:
    """The rows of entries `inner` in each of some copies of so many entries; -1 stays -1."""
    rows = np.asarray(copies)[:, None] * size + inner
    return np.where(np.broadcast_to(inner, rows.shape) < 0, -1, rows).ravel()


def spread(held: Held, lanes: Any) -> Held:
    """One copy for each lane; `lanes` counts them."""
    if held.copy is lanes:
        return held
    which = held.copy if held.copy is not None else np.zeros(len(lanes), np.int64)
    known = None if held.known is None else held.known[which]
    sets = None
    if held.sets is not None:
        sets = gather(held.sets, places_of(which, held.entries, np.arange(held.entries)))
    return Held(held.shape, known, sets, lanes, len(lanes))


def aligned(values: Sequence[Held], lanes: Any) -> tuple[list[Held], Any, int]:
    """The values with equally many copies, read alike by all lanes; how, and how many copies."""
    ways = [value for value in values if value.copy is not None]
    if not ways:
        return list(values), None, 1
    if any(value.copy is not ways[0].copy for value in ways):
        values = [value if value.copy is None else spread(value, lanes) for value in values]
        ways = [value for value in values if value.copy is not None]
    copy, copies = ways[0].copy, ways[0].copies
    return [repeated(value, copy, copies) for value in values], copy, copies


def repeated(value: Held, copy: Any, copies: int) -> Held:
    """A value with one copy as one with many."""
    if value.copy is not None:
        return value
    known = None if value.known is None else np.broadcast_to(value.known, (copies, *value.shape))
    sets = None if value.sets is None else gather(value.sets, np.tile(np.arange(value.entries), copies))
    return Held(value.shape, known, sets, copy, copies)


def joined(one: Anything, other: Anything, lanes: Any) -> Anything:
    """What holds of a value that is one or the other."""
    if isinstance(one, HeldTape) or isinstance(other, HeldTape):
        return _joined_tapes(one, other, lanes)
    (one, other), copy, copies = aligned([one, other], lanes)
    same = one.known is not None and other.known is not None and np.array_equal(one.known, other.known)
    return Held(one.shape, one.known if same else None, united(one.sets, other.sets), copy, copies)


def _joined_tapes(one: Anything, other: Anything, lanes: Any) -> HeldTape:
    assert isinstance(one, HeldTape) and isinstance(other, HeldTape)
    if not one.entries or not other.entries:
        return one if one.entries else other
    if one.is_uniform or other.is_uniform or len(one.entries) != len(other.entries):
        return HeldTape((joined(joined_all(one, lanes), joined_all(other, lanes), lanes),), True)
    pairs = zip(one.entries, other.entries, strict=True)
    return HeldTape(tuple(joined(a, b, lanes) for a, b in pairs))


def joined_all(tape: HeldTape, lanes: Any) -> Any:
    """What holds of every entry of a tape that has entries."""
    total = tape.entries[0]
    for entry in tape.entries[1:]:
        total = joined(total, entry, lanes)
    return total


def chosen(one: Anything, other: Anything, takes_one: Any, lanes: Any) -> Anything:
    """Lane by lane one value or the other."""
    if isinstance(one, HeldTape) or isinstance(other, HeldTape):
        return joined(one, other, lanes)
    if one is other:
        return one
    one, other = spread(one, lanes), spread(other, lanes)
    known = None
    if one.known is not None and other.known is not None:
        known = np.where(takes_one.reshape((-1,) + (1,) * len(one.shape)), one.known, other.known)
    kept = np.repeat(takes_one, one.entries)
    rows = np.arange(len(kept))
    sets = united(gather(one.sets, np.where(kept, rows, -1)), gather(other.sets, np.where(kept, -1, rows)))
    return Held(one.shape, known, sets, lanes, len(lanes))


def moved(value: Anything, inner: Any, known: dict[int, Any]) -> Anything:
    """A value from outside as the lanes of a space see it: `inner` says in which outer lane each of them is. What
    is read alike outside is read alike inside; `known` remembers how."""
    if isinstance(value, HeldTape):
        return replace(value, entries=tuple(moved(entry, inner, known) for entry in value.entries))
    if value.copy is None:
        return value
    if id(value.copy) not in known:
        known[id(value.copy)] = value.copy[inner]
    return replace(value, copy=known[id(value.copy)])


def same(one: Anything, other: Anything) -> bool:
    """Whether as much is known of a value as of one that it was joined into."""
    if isinstance(one, HeldTape) or isinstance(other, HeldTape):
        return isinstance(one, HeldTape) and isinstance(other, HeldTape) and len(one.entries) == len(other.entries)
    if (one.known is None) != (other.known is None) or one.copies != other.copies:
        return False
    sizes = [0 if held.sets is None else held.sets.nnz for held in (one, other)]
    return sizes[0] == sizes[1]
