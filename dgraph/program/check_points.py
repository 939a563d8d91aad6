"""Random points at which `dgraph check` runs a function: small sizes, floats of several spreads, legal indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgraph.errors import DgraphError
from dgraph.program.arguments import extent, flatten, is_extent
from dgraph.sizes import Atom
from dgraph.types import F32, F64, Array, leaves, map_leaves

Leaf = np.ndarray[Any, Any]


def draw_point(
    compiled: Any, given: Mapping[str, Any], random: np.random.Generator, draw: int
) -> tuple[list[Leaf], dict[str, int]]:
    """Leaves at a random point: sizes 2 to 5, floats around 0 (later draws: positive, then small), integers that are
    legal indices of every axis. Params have the program's values, moved a little in later draws."""
    signature = compiled.signature
    sizes: dict[Atom, int] = {}
    for position, name in enumerate(signature.sizes):
        sizes[name] = 2 + (position + draw) % 4
    fixed: dict[str, list[Leaf]] = {}
    for formal in signature.formals:
        if formal.name in given and is_extent(formal):
            sizes[formal.name] = extent(formal.name, given[formal.name])
        elif formal.name in given:
            fixed[formal.name] = [promoted(leaf) for leaf in _flatten_promoted(formal, given[formal.name])]
            for array, (_, leaf) in zip(fixed[formal.name], leaves(formal.type, formal.name), strict=True):
                for axis, number in zip(leaf.shape, array.shape, strict=True):
                    for atom in axis.atoms():
                        if axis.terms == (((atom,), 1),):
                            sizes[atom] = number
    point: list[Leaf] = []
    for formal in signature.formals:
        if is_extent(formal):
            continue
        if formal.name in fixed:
            point += fixed[formal.name]
            continue
        stored = formal.name in signature.params
        values = None
        if stored:
            values = [promoted(leaf) for leaf in _flatten_promoted(formal, compiled.program.value_of(formal.name))]
        for at, (_, leaf) in enumerate(leaves(formal.type, formal.name)):
            shape = tuple(axis.evaluate(sizes.__getitem__) for axis in leaf.shape)
            if values is not None and draw and leaf.dtype.is_float:
                point.append(np.asarray(values[at] + 0.1 * random.standard_normal(shape)))
            elif values is not None:
                point.append(values[at])
            elif leaf.dtype.is_float:
                normal = random.standard_normal(shape)
                spread = (normal, 0.5 + random.random(shape), 0.1 * normal)[draw % 3]
                point.append(np.asarray(spread, leaf.dtype.numpy))
            elif leaf.dtype.kind == "bool":
                point.append(np.asarray(random.integers(0, 2, shape), bool))
            elif leaf.dtype.kind == "key":
                point.append(np.asarray(random.integers(0, 2**63, shape), leaf.dtype.numpy))
            else:
                low, high = (0, 2) if shape else (2, 4)
                point.append(np.asarray(random.integers(low, high, shape), leaf.dtype.numpy))
    return point, {formal.name: sizes[formal.name] for formal in signature.formals if is_extent(formal)}


def _flatten_promoted(formal: Any, value: Any) -> list[Leaf]:
    """The leaves of a value whose floats may still be f32."""
    fault: DgraphError | None = None
    for dtype in (F64, F32):
        wanted = map_leaves(formal.type, lambda leaf, d=dtype: Array(d, leaf.shape) if leaf.dtype.is_float else leaf)  # type: ignore[misc]
        try:
            return list(flatten(formal.name, wanted, value))
        except DgraphError as found:
            fault = fault or found
    assert fault is not None
    raise fault


def promoted(leaf: Leaf) -> Leaf:
    """The same in f64 if it is in f32."""
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def floats(arrays: Sequence[Any]) -> list[Leaf]:
    """The f64 arrays among some leaves."""
    return [array for array in map(np.asarray, arrays) if array.dtype == np.float64]


def by_formal(compiled: Any, values: Sequence[Leaf]) -> dict[str, list[Leaf]]:
    """Leaves by the formal that they belong to."""
    waiting = iter(values)
    return {formal.name: [next(waiting) for _ in leaves(formal.type)] for formal in compiled.signature.formals}
